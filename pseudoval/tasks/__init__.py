"""Work as tasks, done in this process or by an executor: a process pool, or a Dask cluster."""

from pseudoval.tasks.run import ALONE, Task, Workers, run_tasks
from pseudoval.tasks.shared_disk import SharedFolder, Written, shared

__all__ = ["ALONE", "SharedFolder", "Task", "Workers", "Written", "run_tasks", "shared"]
