"""The step launcher: decides one instance of one step, and says what its attempt came to. The heart of penstock.

The embedded engine calls it in-process; `penstock exec-step` calls it in a process of its own, and any other engine
calls that. So guards, cache hits, artifacts, validation and events cannot differ between engines. The launcher never
retries: whether another attempt happens is the engine's decision, which it takes with `retry.next_delay`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Protocol

import msgspec

from ..core.clock import Clock
from ..core.errors import CodeChangedError
from ..core.ids import slug
from ..graph import Graph, Node, ResourceRequest
from ..ports.cluster import Cluster
from ..ports.events import AttemptFailed, AttemptStarted, RunView, StepBlocked, StepCached, StepSkipped, StepSucceeded
from ..ports.records import Failure, FailureClass, Fingerprint, HiddenInput, Observation, RunRecord
from ..ports.runlog import CacheEntry, CacheIndex, CodeText
from .arguments import Blocked, NotReady, Resolver, Skipped, Unreadable
from .failure import failure_of
from .frontier import Item
from .healing import Healing
from .outside import Answers, Place, Unseen, look, version_now
from .redaction import MASK
from .retry import next_delay
from .services import Services
from .tasks import StepOutcome, StepTask, TaskArgument, cache_key, flat_digests

_LOOK_S = 1.0
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Cache(CacheIndex, CodeText, Protocol):
    """The two parts of the store that the launcher reads."""


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """An instance that must run: the task, and the event that takes ownership of the attempt."""

    task: StepTask
    started: AttemptStarted
    shared_key: str | None = None  # the start claims it: others that need it wait for this computation
    entries_seen: int = 0  # of that key, none of them a hit


Decision = Prepared | StepCached | StepSkipped | StepBlocked | AttemptFailed | NotReady


class Launcher:
    """Decides for one run."""

    def __init__(
        self,
        graph: Graph,
        record: RunRecord,
        view: RunView,
        store: Cache,
        services: Services,
        cluster: Cluster | None = None,
    ) -> None:
        self.resolver = Resolver(graph, view, record.parameters, services.artifacts)
        self.healing = Healing(graph, view, self.resolver, services.artifacts, store)
        self._nodes = {node.name: node for node in graph.nodes}
        self._record = record
        self._view = view
        self._store = store
        self._services = services
        self._cluster = cluster  # None: attempts run on this machine, which schedules by no request
        self._clock: Clock = services.clock
        self._fingerprints: dict[str, Fingerprint | None] = {}
        self.held_to: Mapping[str, str] = {}  # target -> digest of the code that it must have here
        self._parts: dict[str, dict[str, str] | None] = {}
        # Target -> when its files were last looked at, and those that were edited meanwhile.
        self._looked: dict[str, tuple[float, tuple[HiddenInput, ...]]] = {}
        self._use_cache = bool(record.options.get("cache", True))
        self._forced = frozenset(record.options.get("force", ()))
        # Of attempts. Which machine and process of a cluster it is, is the cluster's to know.
        self._host, self._pid = (os.uname().nodename, os.getpid()) if cluster is None else (cluster.name, 0)
        self._folders = {  # step -> where its instances keep their checkpoints
            node.name: os.path.join(services.checkpoints, record.id, slug(node.name))
            for node in graph.nodes
            if services.checkpoints
        }

    # -- deciding ------------------------------------------------------------------------------------------------

    def decide(
        self, name: str, index: str, *, engine_attempt: int | None = None, answers: Answers | None = None
    ) -> Decision:
        """Skip, block, take a verified hit, or prepare an attempt. Whatever has to be looked at outside is waited for,
        and kept in `answers`."""
        answers = {} if answers is None else answers
        while isinstance(decision := self.decide_with(answers, name, index, engine_attempt=engine_attempt), Unseen):
            answers |= look(self._services, decision)
        return decision

    def decide_with(
        self, answers: Answers, name: str, index: str, *, engine_attempt: int | None = None
    ) -> Decision | Unseen:
        """The same, without waiting for anybody: Unseen where the answers say nothing of a place that counts."""
        node = self._nodes[name]
        arguments = self.resolver.arguments(node, index)
        now = self._clock.now_us()
        match arguments:
            case NotReady():
                return arguments
            case Unreadable(_, unread):
                attempt = self._view.step(name, index).attempts + 1
                failure = self.healing.explained(Item(name, index), unread)
                return AttemptFailed(at=now, step=name, index=index, attempt=attempt, failure=failure)
            case Skipped(because):
                return StepSkipped(at=now, step=name, index=index, because=because)
            case Blocked(because):
                return StepBlocked(at=now, step=name, index=index, because=because)
        if (other := self._other_code(node)) is not None:
            attempt = self._view.step(name, index).attempts + 1
            return AttemptFailed(at=now, step=name, index=index, attempt=attempt, failure=other)
        parts = self.key_parts(node)
        key = cache_key(parts, arguments) if parts is not None else None
        inputs = {argument: flat_digests(each) for argument, each in arguments.items()}
        shared = key is not None and self._use_cache and name not in self._forced
        hit, seen = self.look_up(key, node, answers) if key is not None and shared else (None, 0)
        if isinstance(hit, Unseen):
            return hit
        if key is not None and hit is not None:
            return StepCached(
                at=now,
                step=name,
                index=index,
                key=key,
                outputs=hit.outputs,
                inputs=inputs,
                parts=parts or {},
                origin=(hit.run_id, hit.step, hit.index),
                observations=hit.observations,
                metrics=hit.metrics,
                note=f"already done: {hit.note}" if node.options.effect and hit.note else hit.note,
                saved_seconds=hit.seconds,
            )
        before = self._view.step(name, index)
        if node.options.effect == "at-most-once" and before.attempts:
            failure = Failure(
                FailureClass.KILLED,
                "an earlier attempt of this at-most-once effect may have happened",
                hint="check what it did; a new run would do it again",
            )
            return AttemptFailed(at=now, step=name, index=index, attempt=before.attempts + 1, failure=failure)
        wants = _wanted(node, self._view.trouble(name, index).out_of_memory) if node.options.resources else None
        kept = self._cluster.keeps(wants) if wants is not None and self._cluster is not None else None
        task = self._task(node, index, before.attempts + 1, arguments, key, kept)
        started = AttemptStarted(
            at=now,
            step=name,
            index=index,
            attempt=task.attempt,
            host=self._host,
            pid=self._pid,
            key=key,
            inputs=inputs,
            parts=parts or {},
            waived=_waived(wants, kept) if wants is not None else (),
            engine_attempt=engine_attempt,
            memory_limit=task.limits.memory_bytes if task.limits is not None else None,
        )
        return Prepared(task, started, key if shared else None, seen)

    def _task(
        self,
        node: Node,
        index: str,
        attempt: int,
        arguments: dict[str, TaskArgument],
        key: str | None,
        resources: ResourceRequest | None,
    ) -> StepTask:
        limits = node.options.limits
        return StepTask(
            run_id=self._record.id,
            pipeline=self._record.pipeline,
            step=node.name,
            index=index,
            attempt=attempt,
            target=node.target,
            arguments=arguments,
            outputs=node.outputs,
            payload=node.payload,
            timeout_s=node.options.timeout_s,
            limits=limits and limits.after(self._view.trouble(node.name, index).out_of_memory),
            resources=resources,
            quarantine=node.options.quarantine,
            parameters=self._record.parameters if node.options.effect else {},
            effect=node.options.effect,
            epoch=self._view.epoch,
            checkpoint_dir=self._checkpoint(node.name, index),
            logical_time=self._record.logical_time,
            seed=self._record.seed,
            reads=node.options.reads,
            # An effect deals with the outside: that is what it is for, and doing it again would be worse.
            watch=key is not None and node.options.effect is None and self._services.hidden != "off",
        )

    def key_parts(self, node: Node) -> dict[str, str] | None:
        """What the cache key is made of besides inputs; None for a step that must not be cached."""
        if node.name in self._parts:
            return self._parts[node.name]
        parts = self._key_parts(node)
        if not node.options.env:  # the environment may change while the run goes on
            self._parts[node.name] = parts
        return parts

    def _key_parts(self, node: Node) -> dict[str, str] | None:
        if not node.options.cache:
            return None
        fingerprint = self.fingerprint(node.target)
        if fingerprint is None:
            return None
        parts = {"code": fingerprint.digest, "python": PYTHON, "seed": str(self._record.seed)}
        if node.options.quarantine is not None:
            parts["quarantine"] = msgspec.json.encode(node.options.quarantine).decode()
        for name in node.options.env:
            parts[f"env:{name}"] = os.environ.get(name, "")
        return parts

    def _other_code(self, node: Node) -> Failure | None:
        """An image that was built from other code would run that, or find hits of it, and nobody would notice."""
        expected, here = self.held_to.get(node.target), self.fingerprint(node.target) if self.held_to else None
        if expected is None or here is None or here.digest == expected:
            return None
        return failure_of(
            CodeChangedError(
                f"the image has other code for {node.target} than this run was started with",
                hint="build it again (penstock build), and name the new image where the old one is named",
            )
        )

    def fingerprint(self, target: str) -> Fingerprint | None:
        """The code behind a target, remembered in the store so that `why` can show lines."""
        if target not in self._fingerprints:
            found = self._services.fingerprints.of(target)
            self._fingerprints[target] = found
            if found is not None:
                self._store.put_code(found.digest, found.parts, found.packages, found.unseen)
        return self._fingerprints[target]

    def look_up(self, key: str, node: Node, answers: Answers) -> tuple[CacheEntry | Unseen | None, int]:
        """The newest entry whose bytes are there and whose observations still hold, and how many entries there are.
        Anything else is a miss; Unseen where the answers leave it open."""
        entries = self._store.entries(key)
        gone: set[str] = set()
        for entry in entries:
            if entry.run_id in gone:
                continue
            if not all(self._services.artifacts.intact(ref) for ref in entry.outputs.values()):
                self._store.forget(key, entry.run_id)
                gone.add(entry.run_id)
            elif self._tells_all(node, entry):
                unseen: list[Place] = []
                if all(self._may_hold(seen, answers, unseen) for seen in entry.observations):
                    return Unseen.of(unseen, entry.seconds) if unseen else entry, 0
        return None, sum(entry.run_id not in gone for entry in entries)

    def _tells_all(self, node: Node, entry: CacheEntry) -> bool:
        """Whether the code asks for nothing that neither the step nor the entry declares. An entry that does may be
        there from a run that did not look for hidden inputs."""
        code = self.fingerprint(node.target) if self._services.hidden == "on" else None
        if code is None or not code.hidden:
            return True
        from .hidden.declared import undeclared

        return not undeclared(node.options, entry.observations, code.hidden)

    def _may_hold(self, seen: Observation, answers: Answers, unseen: list[Place]) -> bool:
        """Whether the outside is as it was, or is still to be looked at. What cannot be looked at counts as changed."""
        place = (seen.kind, seen.name)
        if place in answers:
            return answers[place] == seen.version
        if is_masked(seen):
            return False
        observer = self._services.observer(seen.kind)
        if observer is not None and observer.is_far:
            unseen.append(place)
            return True
        return version_now(self._services, place) == seen.version

    # -- recording -----------------------------------------------------------------------------------------------

    def concluded(self, prepared: Prepared, outcome: StepOutcome) -> StepSucceeded | AttemptFailed:
        """The event that ends an attempt. `retry_at` is when the policy would like another one."""
        task, now = prepared.task, self._clock.now_us()
        failure = outcome.failure or self.healing.conflict(task.step, task.index, outcome.outputs)
        if failure is None:
            if outcome.checkpointed or task.attempt > 1:  # an attempt before it may have left one
                self._clear_checkpoint(task)
            hidden, edited = self._hidden(task, outcome), self._edited(prepared, outcome)
            is_kept = not edited and (not hidden or self._services.hidden == "warn")
            return StepSucceeded(
                at=now,
                step=task.step,
                index=task.index,
                attempt=task.attempt,
                outputs=outcome.outputs,
                key=prepared.started.key if is_kept else None,
                observations=outcome.observations,
                metrics=outcome.metrics,
                note=outcome.note,
                seconds=outcome.seconds,
                cpu_seconds=outcome.cpu_seconds,
                hidden=(*hidden, *edited),
            )
        failure = self.healing.explained(Item(task.step, task.index), failure)
        same = self._is_same(prepared, failure)
        delay = self._delay(task.step, task.index, task.attempt, failure, same=same)
        if same and delay is None and self.retry_delay(task.step, task.index, task.attempt, failure) is not None:
            failure = _met_again(failure)
        return AttemptFailed(
            at=now,
            step=task.step,
            index=task.index,
            attempt=task.attempt,
            failure=failure,
            retry_at=None if delay is None else now + int(delay * 1_000_000),
            seconds=outcome.seconds,
            cpu_seconds=outcome.cpu_seconds,
        )

    def _edited(self, prepared: Prepared, outcome: StepOutcome) -> tuple[HiddenInput, ...]:
        """Files that were edited since the key was made: the process that ran the step may have imported the newer
        code. Asked where a process ran it for the first time, and otherwise once a second. Once there is one it stays,
        for nobody knows which processes have it."""
        target, now = prepared.task.target, monotonic()
        if prepared.started.key is None:
            return ()
        looked_at, found = self._looked.get(target, (0.0, ()))
        if not found and (outcome.fresh or now - looked_at >= _LOOK_S):
            found = tuple(HiddenInput("code", name) for name in self._services.fingerprints.edited(target))
            self._looked[target] = now, found
        return found

    def _hidden(self, task: StepTask, outcome: StepOutcome) -> tuple[HiddenInput, ...]:
        """What the result may depend on that the step does not declare: seen while it ran, or written in its code."""
        if not task.watch and not outcome.hidden:
            return ()
        code = self.fingerprint(task.target) if task.watch else None
        found = (*outcome.hidden, *code.hidden) if code is not None else outcome.hidden
        if not found:
            return ()
        from .hidden.declared import undeclared  # most steps have none

        return undeclared(self._nodes[task.step].options, outcome.observations, found)

    def retry_delay(self, name: str, index: str, attempt: int, failure: Failure) -> float | None:
        """Seconds until the next attempt that the step's policy wants; attempts before a resume do not count."""
        return self._delay(name, index, attempt, failure, same=False)

    def _delay(self, name: str, index: str, attempt: int, failure: Failure, *, same: bool) -> float | None:
        options = self._nodes[name].options
        policy = options.retry if options.effect != "at-most-once" else None
        spent = self._view.spent.get((name, index), 0)
        return next_delay(policy, failure, attempt, spent=spent, same=same, seed=f"{self._record.id}:{name}:{index}")

    def _is_same(self, prepared: Prepared, failure: Failure) -> bool:
        """Whether a pure step has met the very error that its attempt before met, with the same code and inputs.

        A step that acts outside, keeps nothing for others, or whose code is not known is not taken to be pure.
        """
        task, key = prepared.task, prepared.started.key
        if not failure.sameness or key is None or task.effect is not None:
            return False
        return self._view.trouble(task.step, task.index).last == f"{key}:{failure.sameness}"

    def _checkpoint(self, name: str, index: str) -> str:
        folder = self._folders.get(name)
        return f"{folder}/{index or '_'}" if folder is not None else ""

    def _clear_checkpoint(self, task: StepTask) -> None:
        if not task.checkpoint_dir or not os.path.isdir(task.checkpoint_dir):
            return
        real, home = os.path.realpath(task.checkpoint_dir), os.path.realpath(self._services.checkpoints)
        if not real.startswith(os.path.join(home, "")):
            return  # whatever led there, it is not ours to remove
        import shutil

        shutil.rmtree(real, ignore_errors=True)


def is_masked(seen: Observation) -> bool:
    """Whether a secret was taken out of it: nobody can look at this place again."""
    return MASK in seen.name or MASK in seen.version


def refused(failed: AttemptFailed) -> list[AttemptStarted | AttemptFailed]:
    """What to record of an attempt that was decided against before it began: it is counted, and it failed."""
    started = AttemptStarted(
        at=failed.at,
        step=failed.step,
        index=failed.index,
        attempt=failed.attempt,
        host=os.uname().nodename,
        pid=os.getpid(),
    )
    return [started, failed]


def _met_again(failure: Failure) -> Failure:
    """The failure, with the reason why the attempts that its policy has left are not made."""
    why = (
        f"the same {failure.name} twice on the same inputs: another attempt would meet it again "
        "(Retry(even_if_same=True) makes it all the same)"
    )
    return msgspec.structs.replace(failure, hint=f"{failure.hint}; {why}" if failure.hint else why)


def _wanted(node: Node, out_of_memory: int) -> ResourceRequest | None:
    """What this attempt would like to have. Memory grows with its limit."""
    wanted, limits = node.options.resources, node.options.limits
    if wanted is None or wanted.memory_bytes is None or limits is None or limits.on_out_of_memory is None:
        return wanted
    grown = limits.on_out_of_memory.of(wanted.memory_bytes, out_of_memory)
    return msgspec.structs.replace(wanted, memory_bytes=grown)


def _waived(wants: ResourceRequest, kept: ResourceRequest | None) -> tuple[str, ...]:
    """Requests that this place does not schedule by; recorded, not forgotten."""
    kept = kept or ResourceRequest()
    every = {
        "cpu": (None if wants.cpu is None else f"{wants.cpu:g}", kept.cpu),
        "memory": (wants.memory_bytes, kept.memory_bytes),
        "gpu": (wants.gpu or None, kept.gpu or None),
    }
    return tuple(f"{name}={value}" for name, (value, used) in every.items() if value is not None and used is None)
