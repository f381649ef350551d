# A task of a SLURM array runs as its own job; no rule and no science.
# Needs: the command line. The plugin (2.8.0) starts every task of an array as the array's first job,
# which runs the task's command and then checks the first job's outputs: a task that ends long before
# the first one would fail (snakemake/snakemake-executor-plugin-slurm, issue 447). So the process
# becomes the task's command here, before anything else is read.
import os
import sys

OPTION = "--slurm-jobstep-array-execs="
ARRAY_COMMANDS = [
    argument.removeprefix(OPTION)
    for argument in sys.argv
    if argument.startswith(OPTION)
]
if ARRAY_COMMANDS:
    from snakemake_executor_plugin_slurm_jobstep import parse_array_execs
    from zlib import decompress

    commands = parse_array_execs(ARRAY_COMMANDS[0])
    command = commands.get(os.environ.get("SLURM_ARRAY_TASK_ID"))  # none for the first
    if command:
        sys.stderr.flush()
        os.execvp("sh", ["sh", "-c", decompress(bytes.fromhex(command)).decode()])
