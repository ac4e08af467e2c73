"""Kernels that begin with their imports done: each is a fork of a process that has made them once.

A page of records takes about a second to compute and twice that to start Python and import what it needs. In a build,
one process for each core imports that, runs nothing else, and is forked for every page. So a page still has a process
of its own, in which no other page has left anything.
"""

import multiprocessing
import os
import signal
import sys
import threading

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

# A fork of a process that has threads or a GPU is not safe; these imports start neither. On a Mac, they may.
POSSIBLE = sys.platform == "linux"
IMPORTED = ("ipykernel.kernelapp", "torch", "mlp_lib.plots", "mlp_lib.chapters.notebook")
BACKEND = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # read when matplotlib is imported


class ForkedKernelManager(AsyncKernelManager):
    """What papermill takes as `kernel_manager_class`."""

    async def _async_pre_start_kernel(self, **kwargs):
        if self.provisioner is None:
            self.kernel_id = self.kernel_id or "page"
            self.provisioner = _Forking(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**kwargs)


class _Forking(LocalProvisioner):
    async def launch_kernel(self, cmd: list[str], **kwargs):
        arguments = cmd[cmd.index("-f") :]  # what follows the interpreter and its module
        self.process = _Kernel(arguments, kwargs.get("cwd") or os.getcwd(), kwargs["env"])
        self.pid = self.pgid = self.process.pid  # it makes a group of its own, as every kernel does
        return self.connection_info


class _Kernel:
    """A forked kernel, with as much of `subprocess.Popen` as `LocalProvisioner` uses."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], folder: str, variables: dict[str, str]):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*IMPORTED])
        self._process = context.Process(target=_be_a_kernel, args=(arguments, folder, variables))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _be_a_kernel(arguments: list[str], folder: str, variables: dict[str, str]) -> None:
    from ipykernel.kernelapp import IPKernelApp

    # Whoever asked for the kernel is not its parent in the system's sense: without this it would outlive a kill.
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    os.setsid()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    IPKernelApp.launch_instance(arguments)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
