"""A SLURM cluster of one node on this machine: munge, slurmctld and slurmd, with pretended GPUs."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
# Where SLURM's commands look. SLURM_CONF will not do: the executor drops it from the environment of jobs.
CONFIGURATION = Path("/etc/slurm")
NVIDIA_MAJOR = 195  # of NVIDIA's devices; nothing answers here

SLURM_CONF = """\
ClusterName=pretended
SlurmctldHost={host}(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={port}
SlurmdPort={slurmd_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
OverTimeLimit=0
KillWait=1
MinJobAge=3600
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=pretended Nodes={host} Default=YES MaxTime=UNLIMITED State=UP
"""


def missing() -> str | None:
    """Say why no cluster can be started here; None when one can."""
    absent = [tool for tool in NEEDED if shutil.which(tool) is None]
    if absent:
        return f"SLURM is not installed (no {', '.join(absent)}; Debian: apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "starting a SLURM cluster needs root"
    own = CONFIGURATION / "slurm.conf"
    return f"this machine has a SLURM of its own ({own})" if own.exists() and not own.is_symlink() else None


class Cluster:
    """The cluster: all its files are in `folder`, and linked from where SLURM looks for its configuration.

    `around_slurmd` are the words of a command that starts slurmd as the rest of its line says.
    """

    def __init__(self, folder: Path, gpus: int = 2, around_slurmd: tuple[str, ...] = ()) -> None:
        self.folder, self.gpus, self.around_slurmd = folder, gpus, around_slurmd
        self._links = [CONFIGURATION / name for name in ("slurm.conf", "gres.conf")]
        self._daemons: list[subprocess.Popen] = []
        # A configuration without its cluster makes every start of Snakemake wait 9 s for the controller. The
        # links must go even if this process is killed: the guard's input ends with it.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'cat; rm -f "$@"', "guard", *map(str, self._links)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def start(self) -> None:
        """Start the daemons and wait until the node is idle. Raises RuntimeError with the logs otherwise."""
        for name in ("munge", "spool", "state"):
            (self.folder / name).mkdir(parents=True)
        self._make_gpus()
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(2)
        configuration = SLURM_CONF.format(
            host=host, port=ports[0], slurmd_port=ports[1], folder=self.folder, gpus=self.gpus
        )
        self._configure("slurm.conf", configuration)
        devices = f"{self.folder}/gpu[0-{self.gpus - 1}]"
        self._configure("gres.conf", f"NodeName={host} Name=gpu File={devices}\n")
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munge = self.folder / "munge"
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}/socket",
            f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        _wait(lambda: (munge / "socket").exists(), self)
        self._daemon("slurmctld", "-D")
        self._daemon(*self.around_slurmd, "slurmd", "-D")
        _wait(lambda: self.call("sinfo", "--noheader", "--format=%t").strip() == "idle", self)

    def stop(self) -> None:
        """Cancel all jobs and stop the daemons."""
        self.call("scancel", "--user=root", "--signal=KILL", "--full")
        self.call("scancel", "--user=root")
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        self._guard.stdin.close()
        self._guard.wait(10)

    def call(self, *command: str) -> str:
        """What a SLURM command prints; nothing when it fails, as it does before the daemons are up."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        return done.stdout if done.returncode == 0 else ""

    def logs(self) -> str:
        """The last lines of the daemons' logs."""
        return "\n".join(
            f"== {path.name}\n" + "".join(path.open(errors="replace").readlines()[-15:])
            for path in sorted(self.folder.glob("*.log"))
        )

    def _configure(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        CONFIGURATION.mkdir(exist_ok=True)
        (CONFIGURATION / name).unlink(missing_ok=True)
        (CONFIGURATION / name).symlink_to(self.folder / name)

    def _make_gpus(self) -> None:
        for number in range(self.gpus):
            os.mknod(self.folder / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(NVIDIA_MAJOR, number))

    def _daemon(self, *command: str) -> None:
        with (self.folder / f"{Path(command[0]).name}.out.log").open("w") as log:
            # Killed with this process, however that ends.
            words = ("setpriv", "--pdeathsig=TERM", *command)
            self._daemons.append(subprocess.Popen(words, stdout=log, stderr=log))


def _free_ports(count: int) -> list[int]:
    listeners = [socket.socket() for _ in range(count)]
    for listener in listeners:
        listener.bind(("127.0.0.1", 0))
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _wait(condition, cluster: Cluster) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the SLURM cluster does not come up:\n{cluster.logs()}")
        time.sleep(0.2)
