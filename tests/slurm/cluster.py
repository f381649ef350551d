"""A SLURM cluster on the loopback: two nodes on this machine, each with two made-up GPUs.

In: a new folder. Out: munged, slurmctld and two slurmd, all in that folder but for two files of
/etc/slurm: srun inside a job looks nowhere else, the executor clears `SLURM_CONF` there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

NODES = ("n1", "n2")
GPUS = 2
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
SYSTEM = Path("/etc/slurm")
MARK = "# Made-up cluster of protoseg's tests; delete it when no test runs.\n"

# cred_expire: a requeued job may start again only when its old credential has expired.
CONF = """\
ClusterName=made_up
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
KillWait=5
MinJobAge=3600
MpiDefault=none
{nodes}
PartitionName=cpu Nodes=ALL Default=YES
PartitionName=gpu Nodes=ALL
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
    " CPUs=64 RealMemory=256000 Gres=gpu:{gpus}"
)


class Unavailable(Exception):
    """Why there can be no cluster on this machine."""


class Cluster:
    """Starts with the object, ends with `stop`."""

    def __init__(self, folder: Path) -> None:
        install()
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []
        write_configuration(folder)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        names = {"socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
        names |= {"key-file": key.name, "seed-file": "munged.seed"}
        places = [f"--{option}={self.folder / name}" for option, name in names.items()]
        self._daemon("munged", "--foreground", *places)
        wait_for(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        wait_for(lambda: self.states() == ["idle"] * len(NODES), "both nodes")

    def _daemon(self, *command: str) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            self.daemons.append(subprocess.Popen(command, stdout=log, stderr=log))

    def states(self) -> list[str]:
        """State of every node; an asterisk means that it does not answer."""
        done = subprocess.run(["sinfo", "-h", "-N", "-p", "cpu", "-o", "%T"], capture_output=True)
        return done.stdout.decode().split()

    def stop(self) -> None:
        """End jobs and daemons, last started first, and give /etc/slurm back."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["scancel", "--user=root"], timeout=10)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=20)
            daemon.kill()
            daemon.wait()
        for name in ("slurm.conf", "gres.conf"):
            (SYSTEM / name).unlink(missing_ok=True)


def install() -> None:
    """Debian's packages, where they are missing; raises Unavailable."""
    if os.geteuid() != 0:
        raise Unavailable("a SLURM cluster on the loopback needs root")
    for path in (SYSTEM / "slurm.conf", SYSTEM / "gres.conf"):
        if path.is_file() and not path.read_text().startswith(MARK):
            raise Unavailable(f"{path} is there: this machine belongs to a cluster")
    if all(shutil.which(program) for program in PROGRAMS):
        return
    if not shutil.which("apt-get"):
        raise Unavailable(f"{', '.join(PROGRAMS)} are not all here, nor is apt-get")
    get = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=60"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(get + command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise Unavailable(f"apt-get {command[0]} failed: {done.stderr.strip()[-300:]}")


def write_configuration(folder: Path) -> None:
    """slurm.conf and gres.conf; a GPU is a link to /dev/null, whose number SLURM hands out."""
    host, ports = socket.gethostname().partition(".")[0], free_ports(1 + len(NODES))
    (folder / "state").mkdir()
    for node in NODES:
        (folder / node / "spool").mkdir(parents=True)
        for gpu in range(GPUS):
            (folder / node / f"gpu{gpu}").symlink_to("/dev/null")
    nodes = "\n".join(
        NODE.format(name=node, host=host, port=port, gpus=GPUS)
        for node, port in zip(NODES, ports[1:], strict=True)
    )
    conf = CONF.format(host=host, port=ports[0], folder=folder, nodes=nodes)
    gres = [f"NodeName={node} Name=gpu File={folder}/{node}/gpu[0-{GPUS - 1}]" for node in NODES]
    SYSTEM.mkdir(exist_ok=True)
    (SYSTEM / "slurm.conf").write_text(MARK + conf)
    (SYSTEM / "gres.conf").write_text("\n".join([MARK + "AutoDetect=off", *gres]) + "\n")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Return when ``condition`` holds; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.2)
