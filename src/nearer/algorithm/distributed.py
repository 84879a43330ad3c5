"""Several processes that train one model: their parts, their sums, how they end together.

    torchrun --nproc-per-node 2 -m -- nearer sft ... --processes ddp

Every process draws the same rows and takes its part of them. Gradients are averaged by torch's
own DistributedDataParallel (ddp: the whole model in each process) or fully_shard (fsdp: a part of
the model in each). gloo carries what lies on the CPU, nccl what lies on CUDA.
"""

import inspect
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import (
    rendezvous,  # pyright: ignore[reportUnknownVariableType]
)
from torch.nn.parallel import DistributedDataParallel

from nearer.algorithm.sft_settings import Kind
from nearer.algorithm.torchrun import first_reports, variable, world_size
from nearer.core.errors import ConfigError, NearerError, ReportedElsewhere

Part = TypeVar("Part")
_PATIENCE = timedelta(days=1)  # the first process may encode images for hours; others wait
_REPORTED = "nearer: reported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The processes that train one model, as one of them sees them.

    Attributes:
        kind: how they share the model.
        rank: number of this process, from 0.
        count: how many there are.
        local_rank: number of this process on its machine.
    """

    kind: Kind = "one"
    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Tell whether this process writes the run, calibrates and shows progress."""
        return self.rank == 0

    @property
    def sharded(self) -> int:
        """Count the parts that the model is kept in."""
        return self.count if self.kind == "fsdp" else 1

    @contextmanager
    def in_turn(self) -> Generator[None, None, None]:
        """Let the first process of each machine through the block, then the others."""
        if self.local_rank:
            self._wait()
        yield
        if not self.local_rank:
            self._wait()

    def own_parts(self, parts: Sequence[Part]) -> list[tuple[int, Part]]:
        """Return this process's parts, with their numbers; each process gets as many."""
        each = len(parts) // self.count
        first = self.rank * each
        return list(enumerate(parts[first : first + each], first))

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set in any process, the same in all of them."""
        return flag if self.count == 1 else self.total({"flag": torch.tensor(flag)})["flag"] > 0

    def total(self, values: Mapping[str, Shaped[Tensor, ""]]) -> dict[str, float]:
        """Return the sums of numbers over all processes, the same in all of them."""
        sums = torch.stack([value.detach().cpu().double() for value in values.values()])
        if self.count > 1:
            dist.all_reduce(sums)
        return dict(zip(values, cast(list[float], sums.tolist()), strict=True))

    def from_first(self, value: Part) -> Part:
        """Return the value that the first process has, in all of them."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def check_agreed(self, name: str, value: int) -> None:
        """Raise ConfigError unless the number is the same in all processes."""
        mean = self.total({name: torch.tensor(value)})[name] / self.count
        if self.any(mean != value):
            raise ConfigError(
                f"{name} must be the same in every process, got {value} in process {self.rank} "
                f"and {mean:g} on average; put --out on a disk that all machines share"
            )

    def spread(
        self, module: nn.Module, blocks: Sequence[nn.Module] = (), *, some_unused: bool = False
    ) -> nn.Module:
        """Return what to call in place of `module`, so that gradients are those of all processes.

        They become the mean over the processes. All of them start with the first one's weights.

        Args:
            module: its `forward` is watched, and nothing else of it may be called from outside.
            blocks: parts of it that fsdp gathers one at a time; what is in none of them is
                gathered as a whole.
            some_unused: parameters have no gradient; only with ddp.

        Raises:
            ConfigError: fsdp cannot share one of its parameters.
        """
        if self.count == 1:
            return module
        _take_from_first(module)
        if self.kind == "ddp":
            return DistributedDataParallel(
                module, init_sync=False, find_unused_parameters=some_unused, **_buffers_stay()
            )
        _shard(module, blocks, self.count)
        return module

    def exchanging(self, module: nn.Module, now: bool) -> AbstractContextManager[None]:
        """Exchange gradients in this block now, or leave them for a later block of the update.

        Only ddp leaves them: with fsdp the memory that a later exchange takes is the whole model's.
        """
        if now or not isinstance(module, DistributedDataParallel):
            return nullcontext()
        return module.no_sync()

    def _wait(self) -> None:
        if self.count > 1:
            self.total({"here": torch.tensor(1)})


ONE = Processes()
"""No other process."""


@contextmanager
def started(kind: Kind, command: str = "sft") -> Generator[Processes, None, None]:
    """Join the processes that torchrun started for a command of nearer, and end with them.

    If one fails, or is interrupted, one of them reports it in one sentence.

    Raises:
        ConfigError: torchrun and `kind` do not fit each other.
        ToldElsewhere: another process has said why the run ends.
        NearerError: another process was killed.
    """
    with first_reports():
        _check_launch(kind, command)
    if world_size() == 1:
        yield ONE
        return
    processes, store = _join(kind)
    try:
        yield processes
    except BaseException as error:
        _report_once(store, error)
        raise
    dist.destroy_process_group()


def gather(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors, shards joined, on the CPU of the first process; nothing in the others.

    With fsdp each process has shards of them, so all must call this at the same time.
    """
    if not dist.is_initialized():
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    from torch.distributed.tensor import DTensor

    gathered: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        joined = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if dist.get_rank() == 0:
            gathered[name] = joined.cpu().contiguous()
    return gathered


def placed_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return this process's shard of a tensor, if it only has a shard of the other one."""
    if not dist.is_initialized():
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(other, DTensor) or tensor.shape != other.shape:
        return tensor
    values = tensor.to(other.device)
    return distribute_tensor(values, other.device_mesh, other.placements, src_data_rank=None)


def _join(kind: Kind) -> tuple[Processes, Store]:
    """Return this process among those that torchrun started, and the store that all of them see."""
    local_rank = variable("LOCAL_RANK", 0)
    if local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, count = next(rendezvous("env://"))
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"every process must reach the others, got: {str(error).splitlines()[0]}; start all "
            "of them with torchrun, see torchrun --help for several machines"
        ) from error
    return Processes(kind=kind, rank=rank, count=count, local_rank=local_rank), store


def _check_launch(kind: Kind, command: str) -> None:
    if kind == "one" and world_size() > 1:
        kinds = "ddp or fsdp" if command == "sft" else "ddp"
        raise ConfigError(
            f"--processes must be {kinds} under torchrun, got one where torchrun started "
            f"{world_size()}; add --processes ddp, or start nearer without torchrun"
        )
    if kind != "one" and "WORLD_SIZE" not in os.environ:
        raise ConfigError(
            f"--processes must be one without torchrun, got {kind}; start it with torchrun "
            f"--nproc-per-node 2 -m -- nearer {command}, or pass --processes one"
        )


def _shard(module: nn.Module, blocks: Sequence[nn.Module], count: int) -> None:
    """Leave a part of each parameter in this process; frozen ones that cannot be cut stay whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    parameters = dict(module.named_parameters())
    uncut = {name: p for name, p in parameters.items() if not p.ndim or not p.is_contiguous()}
    for name, parameter in uncut.items():
        if parameter.requires_grad:
            raise ConfigError(
                f"a trained parameter must be contiguous and have an axis for --processes fsdp, "
                f"got {name}, which is not or has none; pass --processes ddp"
            )
    mesh = init_device_mesh(next(module.parameters()).device.type, (count,))
    for part in (*blocks, module):
        fully_shard(part, mesh=mesh, ignored_params=set(uncut.values()))


def _take_from_first(module: nn.Module) -> None:
    """Give a module the weights that the first process has."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            # Bytes, since gloo does not know every dtype.
            values = tensor.reshape(-1).clone().view(torch.uint8)
            dist.broadcast(values, src=0)
            tensor.copy_(values.view(tensor.dtype).view(tensor.shape))


def _report_once(store: Store, error: BaseException) -> None:
    """Raise another error in place of this one unless it is for this process to report it."""
    try:
        reported = store.add(_REPORTED, 1) > 1
    except RuntimeError:
        reported = False  # the store went with the process that kept it
    if reported:
        raise ReportedElsewhere("another process has said why the run ends") from error
    if _means_a_lost_process(error):
        raise NearerError(
            "every process must live until the run ends, got one that ended without a word "
            "(killed, perhaps for want of memory); earlier checkpoints are unharmed, continue "
            "with --resume"
        ) from error


def _means_a_lost_process(error: BaseException) -> bool:
    # torch has a class for what nccl says, and names gloo in the text of a RuntimeError.
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def _buffers_stay() -> dict[str, Any]:
    """Return DDP's settings that leave buffers alone: no process changes any after the start."""
    parameters = inspect.signature(DistributedDataParallel).parameters
    # Renamed in torch 2.13, where the name before warns.
    name = "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers"
    return {name: False}
