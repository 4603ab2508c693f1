"""What the contrastive methods share: views, a student and its slow teacher, a queue, training by epochs.

Tsai, Li & Zhu, *MiCE: Mixture of Contrastive Experts for Unsupervised Image Clustering*, ICLR 2021, and the method it
builds on, He et al., *Momentum Contrast for Unsupervised Visual Representation Learning*, CVPR 2020. Equations,
sections, tables and algorithms are MiCE's.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from sklearn.utils import Tags
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim.swa_utils import get_ema_multi_avg_fn

from distclust.contracts import Agreement, Array, MemberOutput, State, Team
from distclust.data import views as image_views
from distclust.distributed.checkpoint import unpack
from distclust.errors import DataError, ParameterError
from distclust.methods.base import (
    AUTO_ROUNDS,
    EnsembleClusterer,
    Rounds,
    batches,
    epochs_of_round,
    most_probable,
    n_batches,
    restore_optimiser,
    round_faults,
)
from distclust.nets import ResNet18, ResNet34, Scaling, SmallResNet
from distclust.seeding import generator, torch_generator, torch_stream

EncoderName = Literal["auto", "small-resnet", "resnet18", "resnet34"]

_SMALL = "small-resnet"
_ENCODERS = {_SMALL: SmallResNet, "resnet18": ResNet18, "resnet34": ResNet34}
_LARGE_SIDE = 32  # pixels, from which on "auto" is the paper's network
_QUEUE = 16384  # embeddings, as in the paper
_STEPS, _STEPS_SMALL = 235_000, 3_000  # the paper's 1,000 epochs of CIFAR-10, and minutes on a CPU
_TEACHER, _TEACHER_SMALL = 0.999, 0.99  # the paper's, and one that keeps up in so few steps
_DECAY = 0.1
_SHIFT = 8  # of a side, for the recipe "digits"
_BLOCK = 1024  # images at a time when networks are only read
_MOMENTUM, _WEIGHT_DECAY = 0.9, 1e-4
_ALIKE = ("n_clusters", "embedding_dim", "expert_heads")  # what decides the sizes of the networks


@dataclass(kw_only=True, eq=False, repr=False)
class ContrastiveClusterer(EnsembleClusterer):
    """Base of the contrastive methods; the parameters that they share stand in each."""

    trains_in_teams: ClassVar[bool] = True

    encoder: Annotated[EncoderName, Field(description="network")] = "auto"
    embedding_dim: Annotated[int, Field(ge=1, description="dimension of the embeddings")] = 128
    tau: Annotated[float, Field(gt=0, allow_inf_nan=False, description="temperature of the experts")] = 1.0
    queue_size: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1)], Field(description="embeddings that a point is told from")
    ] = "auto"
    teacher_momentum: Annotated[
        Literal["auto"] | Annotated[float, Field(ge=0, lt=1)], Field(description="how slowly the teacher follows")
    ] = "auto"
    views: Annotated[str | tuple[str, ...], Field(description="augmentations: a recipe or names of data.views")] = (
        "auto"
    )
    n_epochs: Annotated[Literal["auto"] | Annotated[int, Field(ge=1)], Field(description="passes over the data")] = (
        "auto"
    )
    n_rounds: Annotated[Rounds, Field(description="labelings during training, evenly spread")] = AUTO_ROUNDS
    batch_size: Annotated[int, Field(ge=2, description="points a batch")] = 256
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False, description="of SGD")] = 1.0
    decay_at: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...],
        Field(description="shares of the epochs after which the learning rate falls to a tenth"),
    ] = (0.48, 0.64, 0.8)
    batch_norm_groups: Annotated[int, Field(ge=1, description="parts of a batch with statistics of their own")] = 1
    precision: Annotated[Literal["auto", "float32", "bfloat16"], Field(description="of the networks' sums")] = "auto"
    compile: Annotated[bool, Field(description="compile the networks")] = False
    weights: Annotated[str | None, Field(description="model folder to start from")] = None

    def total_epochs(self, shape: tuple[int, ...], n_samples: int) -> int:
        """Return the number of epochs of the whole run."""
        if self.n_epochs != "auto":
            return self.n_epochs
        steps = _STEPS_SMALL if encoder_name(self.encoder, shape) == _SMALL else _STEPS
        return max(self.n_rounds, round(steps / n_batches(n_samples, self.batch_size)))

    def teachers_momentum(self, shape: tuple[int, ...]) -> float:
        """Return m of the teacher's moving average."""
        if self.teacher_momentum != "auto":
            return self.teacher_momentum
        return _TEACHER_SMALL if encoder_name(self.encoder, shape) == _SMALL else _TEACHER

    def queue_rows(self, n_samples: int) -> int:
        """Return the number of embeddings in the queue."""
        return min(_QUEUE, n_samples) if self.queue_size == "auto" else self.queue_size

    def rate(self, epoch: int, n_epochs: int) -> float:
        """Return the learning rate of an epoch."""
        return self.learning_rate * _DECAY ** sum(epoch >= share * n_epochs for share in self.decay_at)

    def _faults(self, values: dict[str, Any], x: Array) -> list[str]:
        faults = super()._faults(values, x)
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            return [
                *faults,
                f"{type(self).__name__} compares views of images and cannot be used on data points of shape "
                f"{x.shape[1:]}. Give images (N, 1 or 3, height, width), or take method=selective, combination or "
                f"entropy.",
            ]
        try:
            with torch.device("meta"):  # refuses a shape that it cannot take, before any worker starts
                build_trunk(values["encoder"], x.shape[1:])
        except DataError as error:
            faults.append(str(error))
        batch = math.ceil(len(x) / n_batches(len(x), values["batch_size"]))
        if values["queue_size"] != "auto" and values["queue_size"] < batch:
            faults.append(
                f"queue_size={values['queue_size']} cannot be used: it is smaller than a batch of {batch}, which "
                f"would push itself out. Give at least {batch}, or 'auto'."
            )
        if batch < 2 * values["batch_norm_groups"]:
            faults.append(
                f"batch_norm_groups={values['batch_norm_groups']} cannot be used with batches of {batch}: a group "
                f"needs two points. Give {max(1, batch // 2)} or fewer."
            )
        if values["weights"] is not None:
            faults += _weight_faults(type(self), values, tuple(x.shape[1:]))
        if values["views"] != "auto":
            faults += _view_faults(values["views"])
        return faults + round_faults(values)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # images alone
        return tags


class Student(nn.Module):
    """Scaling, trunk and heads: images to l2-normalised embeddings.

    Args:
        settings: the method's checked parameters.
        shape: shape of one data point.
        index: of the member, for its random streams.
        n_heads: embeddings an image.
        groups: parts of a batch that batch norm sees one by one.
    """

    def __init__(
        self, settings: ContrastiveClusterer, shape: tuple[int, ...], index: int, n_heads: int, groups: int = 1
    ) -> None:
        super().__init__()
        self.n_heads, self.groups = n_heads, groups
        self.scaling, self.standard = Scaling(shape), Scaling(shape)
        with torch_stream(settings.random_state, "network weights", member=index):
            self.trunk, width = build_trunk(settings.encoder, shape)
            self.heads = nn.Linear(width, n_heads * settings.embedding_dim)

    def fit(self, x: Tensor) -> None:
        """Set the scaling from all raw values: to 0 .. 1 for the views, then to mean 0 and deviation 1."""
        self.standard.fit(x, "standard").after(self.scaling.fit(x, "unit"))

    def features(self, shown: Tensor) -> Tensor:
        """Return the trunk's features (B, width) of images (B, C, H, W) in 0 .. 1."""
        scaled = self.standard(shown).to(memory_format=torch.channels_last)
        groups = self.groups if self.training else 1
        return torch.cat([self.trunk(part) for part in scaled.tensor_split(groups)])

    def embed(self, features: Tensor) -> Tensor:
        """Return the heads' embeddings (B, n_heads, d) float32 of features."""
        return normalize(self.heads(features).unflatten(1, (self.n_heads, -1)).float(), dim=2)

    def forward(self, shown: Tensor) -> Tensor:
        """Return the embeddings (B, n_heads, d) of images in 0 .. 1."""
        return self.embed(self.features(shown))


class ContrastiveNet(nn.Module):
    """What is trained: the student and what a method adds to it.

    Args:
        student: the network that the teacher follows.
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student


class Queue:
    """The latest embeddings of the teacher.

    Args:
        n_heads: embeddings an image.
        size: number of images, V.
        dim: dimension d.
        device: where they lie.

    Attributes:
        rows: (n_heads, V, d) float32.
        filled: how many of the V are embeddings yet.
    """

    def __init__(self, n_heads: int, size: int, dim: int, device: str) -> None:
        self.rows = torch.zeros(n_heads, size, dim, device=device)
        self.filled, self.at = 0, 0

    def put(self, embeddings: Tensor) -> None:
        """Take in embeddings (B, n_heads, d), B <= V, in the place of the oldest."""
        size = self.rows.shape[1]
        first, rest = embeddings[: size - self.at], embeddings[size - self.at :]
        self.rows[:, self.at : self.at + len(first)] = first.transpose(0, 1)
        self.rows[:, : len(rest)] = rest.transpose(0, 1)
        self.at = (self.at + len(embeddings)) % size
        self.filled = min(size, self.filled + len(embeddings))

    def state_dict(self) -> State:
        """Return rows and places."""
        return {"rows": self.rows, "filled": self.filled, "at": self.at}

    def load_state_dict(self, state: State) -> None:
        """Take up a state that `state_dict` gave."""
        self.rows = state["rows"].to(self.rows.device)
        self.filled, self.at = int(state["filled"]), int(state["at"])


class ContrastiveMember:
    """One student with its teacher, queue and optimiser.

    Args:
        settings: the method's checked parameters.
        shape: shape of one data point.
        index: of the member, for its random streams.
        device: where it computes.
        team: the workers that train this member together; None = this process alone.
    """

    n_views: int  # of each image in a step: the student's first, the teacher's second
    net: ContrastiveNet

    def __init__(
        self,
        settings: ContrastiveClusterer,
        shape: tuple[int, ...],
        index: int,
        device: str = "cpu",
        team: Team | None = None,
    ) -> None:
        self.settings, self.shape, self.index, self.device = settings, shape, index, device
        self.team = Alone() if team is None else team
        self.view = _view(settings.views, shape)
        self.net = self._new_net(max(1, settings.batch_norm_groups // self.team.size))
        self.net.to(device).to(memory_format=torch.channels_last)
        self.teacher = copy.deepcopy(self.net.student).requires_grad_(False)
        self.queue: Queue | None = None
        self.optimiser = torch.optim.SGD(
            self.net.parameters(), lr=settings.learning_rate, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY
        )
        self._followed = list(self.teacher.parameters()), list(self.net.student.parameters())
        self._follow = get_ema_multi_avg_fn(settings.teachers_momentum(shape))
        wrapped = self.team.wrap(self.net)
        self._trained = torch.compile(wrapped) if settings.compile else wrapped

    def _new_net(self, groups: int) -> ContrastiveNet:
        """Return the network to be trained."""
        raise NotImplementedError

    def _losses(self, views: Sequence[Tensor], taught: Tensor) -> Tensor:
        """Return the losses (b,) of this worker's part of a batch.

        Args:
            views: `n_views` of its images, (b, C, H, W) each, in 0 .. 1.
            taught: (b, n_heads, d) the teacher's embeddings of their second views.
        """
        raise NotImplementedError

    def _posterior(self, images: Tensor) -> Tensor:
        """Return the clusters' probabilities (b, K) of images in 0 .. 1, in eval mode."""
        raise NotImplementedError

    def _embedding(self, images: Tensor) -> Tensor:
        """Return the embeddings (b, d) for pictures of images in 0 .. 1, in eval mode."""
        raise NotImplementedError

    def _end_epoch(self) -> None:
        """Do what is due after an epoch."""

    def _end_round(self, x: Tensor, round: int) -> None:
        """Do what is due after a round, before the labels are looked at."""

    def advance(self, x: Tensor, agreed: Agreement | None, round: int) -> MemberOutput:
        """Train for one round and label all points by their most probable cluster; `agreed` is not used."""
        if round == 0:
            self._start(x)
        loss = self._train(x, round)
        self._share_statistics()
        self._end_round(x, round)
        return most_probable(self._look(x), loss, x, self.net.student.scaling)

    def predict_proba(self, x: Tensor) -> Tensor:
        """Return the posterior of the clusters, (N, K)."""
        return self._look(x.to(self.device)).double().cpu()

    def scaled(self, x: Tensor) -> Tensor:
        """Return raw values as the network sees them."""
        with torch.no_grad():
            return self.net.student.scaling(x.to(self.device)).cpu()

    def transform(self, x: Tensor) -> Tensor:
        """Return the embeddings, (N, d): the gate's for MiCE, the student's for MoCo."""
        return self._read(self._embedding, x.to(self.device)).cpu()

    def state_dict(self) -> State:
        """Return networks, queue and optimiser."""
        assert self.queue is not None, "a member has no state before its first round"
        return {
            "net": self.net.state_dict(),
            "teacher": self.teacher.state_dict(),
            "queue": self.queue.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take up a state that `state_dict` gave."""
        self.net.load_state_dict(state["net"])
        self.teacher.load_state_dict(state["teacher"])
        heads, size, dim = state["queue"]["rows"].shape
        self.queue = Queue(heads, size, dim, self.device)
        self.queue.load_state_dict(state["queue"])
        if "optimiser" in state:  # a saved model predicts and has none
            restore_optimiser(self.optimiser, state["optimiser"])

    def _start(self, x: Tensor) -> None:
        least = len(x) // n_batches(len(x), self.settings.batch_size) // self.team.size
        if least < 2:
            raise ParameterError(
                [
                    f"batch_size={self.settings.batch_size} cannot be used with {self.team.size} workers a member: "
                    f"batch norm needs two images on each. Give batch_size={2 * self.team.size} or more."
                ]
            )
        student = self.net.student
        if self.settings.weights is None:
            student.fit(x)
            self.teacher.load_state_dict(student.state_dict())
        else:
            found = _saved_state(self.settings.weights, self.index)
            self.net.load_state_dict(found["net"])
            self.teacher.load_state_dict(found["teacher"])
        rows = self.settings.queue_rows(len(x))
        self.queue = Queue(student.n_heads, rows, self.settings.embedding_dim, self.device)

    def _train(self, x: Tensor, round: int) -> float:
        """Run the round's epochs and return the mean loss over all points."""
        settings, seed = self.settings, self.settings.random_state
        n_epochs = settings.total_epochs(self.shape, len(x))
        total, points = torch.zeros((), device=self.device), 0
        for epoch in epochs_of_round(n_epochs, settings.n_rounds, round):
            for group in self.optimiser.param_groups:
                group["lr"] = settings.rate(epoch, n_epochs)
            noise = torch_generator(seed, "views", member=self.index, round=epoch, device=self.device)
            shuffled = generator(seed, "teacher's order", member=self.index, round=epoch)
            order = generator(seed, "batch order", member=self.index, round=epoch).permutation(len(x))
            self.net.train()
            self.teacher.train()
            for rows in batches(order, settings.batch_size):
                images = x[torch.from_numpy(rows).to(x.device)].to(self.device)
                total += self._step(images, noise, shuffled.permutation(len(rows)))
                points += len(rows)
            self._end_epoch()
        return float(self.team.sum(total)) / max(1, points)

    def _step(self, images: Tensor, noise: torch.Generator, shuffled: Array) -> Tensor:
        """Take one step on a batch of raw images and return the sum of the losses of this worker's part."""
        assert self.queue is not None
        images = self.net.student.scaling(images)
        views = [self.view(images, noise) for _ in range(self.n_views)]  # of the whole batch, on every worker alike
        part = self.team.part(len(images))
        taught = self._teach(views[1], torch.from_numpy(shuffled).to(self.device))
        losses = self._losses([view[part] for view in views], taught[part])
        self.optimiser.zero_grad()
        (losses.sum() * (self.team.size / len(images))).backward()  # the workers' slopes are averaged
        self.optimiser.step()
        self._follow(*self._followed, None)
        self.queue.put(taught)
        return losses.detach().sum()

    @torch.no_grad()
    def _teach(self, views: Tensor, shuffled: Tensor) -> Tensor:
        """Return the teacher's embeddings (B, n_heads, d) of a batch that its batch norm sees in another order."""
        with self._autocast():
            embedded = self.teacher(views[shuffled[self.team.part(len(views))]])
        gathered = self.team.gather(embedded, len(views))
        return torch.empty_like(gathered).index_copy_(0, shuffled, gathered)

    def _share_statistics(self) -> None:
        """Let all workers have the mean of their batch norms' running statistics."""
        for module in (*self.net.modules(), *self.teacher.modules()):
            if isinstance(module, nn.BatchNorm2d):
                for buffer in (module.running_mean, module.running_var):
                    assert buffer is not None
                    buffer.copy_(self.team.sum(buffer) / self.team.size)

    def _look(self, x: Tensor) -> Tensor:
        """Return the posterior of all points, (N, K)."""
        return self._read(self._posterior, x)

    @torch.no_grad()
    def _read(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return a function of all raw images, block by block in eval mode, each worker its part."""
        self.net.eval()
        self.teacher.eval()
        scaling, part = self.net.student.scaling, self.team.part(len(x))
        found = [function(scaling(block.to(self.device))) for block in x[part].split(_BLOCK)]
        whole = self.team.gather(torch.cat(found), len(x))
        if not whole.isfinite().all():
            raise FloatingPointError("training went out of all bounds; lower learning_rate")
        return whole

    def _autocast(self) -> torch.autocast:
        kind = torch.device(self.device).type
        precision = self.settings.precision
        fit = kind == "cuda" and torch.cuda.is_bf16_supported()
        return torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16" or (precision == "auto" and fit))


class Alone:
    """The team of a single worker; see `contracts.Team`."""

    size = 1

    def part(self, n: int) -> slice:
        """Return the whole."""
        return slice(0, n)

    def gather(self, rows: Tensor, n: int) -> Tensor:
        """Return the rows."""
        return rows

    def sum(self, value: Tensor) -> Tensor:
        """Return the value."""
        return value

    def wrap(self, net: nn.Module) -> nn.Module:
        """Return the network."""
        return net


def build_trunk(encoder: str, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
    """Return the trunk of an encoder for images of a shape, and how many features come out of it."""
    trunk = _ENCODERS[encoder_name(encoder, shape)](shape)
    return trunk, trunk.out_dim


def encoder_name(encoder: str, shape: tuple[int, ...]) -> str:
    """Return the name of the trunk that "auto" stands for: the small one below 32 pixels, else the paper's."""
    if encoder != "auto":
        return encoder
    return _SMALL if min(shape[1:]) < _LARGE_SIDE else "resnet34"


def _view(given: str | tuple[str, ...], shape: tuple[int, ...]) -> image_views.View:
    if not isinstance(given, str):
        return image_views.compose(given)
    name = ("moco" if shape[0] == 3 else "digits") if given == "auto" else given
    strengths = {"shift": {"pixels": min(shape[1:]) // _SHIFT}} if name == "digits" else None
    return image_views.recipe(name, strengths)


def _view_faults(given: str | tuple[str, ...]) -> list[str]:
    known, what = (image_views.RECIPES, "recipes") if isinstance(given, str) else (image_views.VIEWS, "views")
    if given and all(name in known for name in ([given] if isinstance(given, str) else given)):
        return []
    return [f"views={given!r} cannot be used: known {what} are {', '.join(known)}."]


def _saved_state(folder: str, index: int) -> State:
    """Return the state of a member of a saved model, of the same place or, where there are fewer, counted round."""
    files = sorted(Path(folder).glob("member-*.safetensors"))
    return unpack(files[index % len(files)].read_bytes())


def _weight_faults(cls: type[ContrastiveClusterer], values: dict[str, Any], shape: tuple[int, ...]) -> list[str]:
    """Return why a saved model cannot be started from."""
    given = Path(values["weights"])
    try:
        found = json.loads((given / "model.json").read_text(encoding="utf-8"))
        there = {**found["parameters"], "method": found["method"], "shape": tuple(found["shape"])}
        if not any(given.glob("member-*.safetensors")):
            raise ValueError("it holds no member")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"weights={values['weights']!r} holds no model ({error}); give the model folder of a run."]
    asked = {name: values[name] for name in _ALIKE if name in values} | {"method": cls.__name__.lower(), "shape": shape}
    asked["encoder"] = encoder_name(values["encoder"], shape)
    there["encoder"] = encoder_name(there.get("encoder", "auto"), there["shape"]) if len(there["shape"]) == 3 else None
    unlike = [f"{name}={there.get(name)!r}, not {value!r}" for name, value in asked.items() if there.get(name) != value]
    if unlike:
        return [f"weights={values['weights']!r} does not fit: it was trained with {'; '.join(unlike)}."]
    return []
