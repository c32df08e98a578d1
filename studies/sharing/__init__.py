"""Work that several processes and machines share, and where a study is kept."""
