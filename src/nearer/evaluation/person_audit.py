"""Audits where no simulator knows whether an episode succeeded: a person looks at clips of some.

    audit-questions.jsonl     the episodes that were drawn, an audited iteration a line
    ledger.sqlite             what people answered at the console

Practice never waits for an answer. Audits are put together from what has been answered so far, and
an answer may come any time later, or be corrected: the last one counts. People are asked blindly:
they are not shown whether the detector ended the episode.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nearer.algorithm.improve_metrics import AuditReport
from nearer.algorithm.score import progress_of
from nearer.core.episode import Ended, ScoredEpisode
from nearer.core.errors import NearerError
from nearer.evaluation.audit import AUDITS, Audit, alarm, audit_metrics, drawn, pooled, read_audits
from nearer.evaluation.audit_settings import AuditPlan
from nearer.runs.clips import keep_clips
from nearer.runs.json_files import append_document, read_documents, require, write_documents
from nearer.runs.ledger import Answer, read_answers

_LOG = logging.getLogger(__name__)
QUESTIONS = "audit-questions.jsonl"
"""Of a run: the episodes that a person is asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An episode that a person is asked about.

    Attributes:
        number: of the question in this run, from 0.
        robot: that acted.
        seed: of the episode; names its clip.
        instruction: that was to be done.
        detected: the detector ended the episode.
        progress_steps: predicted progress d(o_0) - d(o_T).
    """

    number: int
    robot: int
    seed: int
    instruction: str
    detected: bool
    progress_steps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What is asked of an iteration of Stage 2, counted from 0."""

    iteration: int
    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        """Refuse an iteration that there cannot be."""
        require(self.iteration >= 0, "iteration must be 0 or more", self.iteration)

    def audit(self, answers: Mapping[int, Answer]) -> Audit | None:
        """Return what the answers come to; None while there is none but "cannot tell"."""
        given = {one: answers.get(one.number) for one in self.questions}
        known = {one: answer == "yes" for one, answer in given.items() if answer in ("yes", "no")}
        if not known:
            return None
        parts = [
            Audit(
                iteration=self.iteration,
                num_episodes=1,
                num_detections=int(one.detected),
                num_correct_detections=int(one.detected and success),
                num_success=int(success),
                num_ended_by_ground_truth=0,
                progress_steps=one.progress_steps,
                progress_variance=0.0,
            )
            for one, success in known.items()
        ]
        return pooled(parts)


class PersonAuditor:
    """Draws episodes for a person to label every few iterations, and counts what was answered.

    Args:
        plan: how often and how many.
        run: folder of the run.
        seed: of the draw.
    """

    def __init__(self, plan: AuditPlan, run: Path, seed: int) -> None:
        self._plan = plan
        self._run = run
        self._seed = seed
        self._asked = {asked.iteration: asked for asked in read_questions(run)}
        if (run / QUESTIONS).exists():
            # Otherwise the next line would be written into one that a kill cut short.
            write_documents(run / QUESTIONS, list(self._asked.values()))
        self._answered: Mapping[int, Answer] = {}

    def check(self, iteration: int, scored: Sequence[ScoredEpisode]) -> AuditReport:
        """Ask about this iteration if that is due, and report answers that are new."""
        if self._plan.is_due(iteration) and scored and iteration not in self._asked:
            self._ask(iteration, scored)
        self._drop_other_clips()
        try:
            answers = read_answers(self._run)
        except NearerError as error:  # practice does not end by a file of the console
            _LOG.warning("answers of the audits cannot be read now: %s", error)
            return AuditReport()
        if answers == self._answered:
            return AuditReport()
        self._answered = answers
        audits = _audits(list(self._asked.values()), answers)
        if not audits:
            return AuditReport()
        return AuditReport(metrics=audit_metrics(audits[-1]), alarm=alarm(audits, self._plan))

    def _ask(self, iteration: int, scored: Sequence[ScoredEpisode]) -> None:
        first = sum(len(asked.questions) for asked in self._asked.values())
        sample = drawn(self._plan, self._seed, iteration, scored)
        questions = [
            Question(
                number=number,
                robot=one.episode.robot,
                seed=one.episode.seed,
                instruction=one.episode.instruction,
                detected=one.episode.ended is Ended.SUCCESS_DETECTED,
                progress_steps=float(progress),
            )
            for number, (one, progress) in enumerate(
                zip(sample, progress_of(sample), strict=True), start=first
            )
        ]
        asked = Questions(iteration=iteration, questions=tuple(questions))
        self._asked[iteration] = asked
        append_document(self._run / QUESTIONS, asked)

    def _drop_other_clips(self) -> None:
        """Keep the clips of the episodes that were drawn last: the robots save those of all."""
        for asked in list(self._asked.values())[-1:]:
            keep_clips(self._run, asked.iteration, {one.seed for one in asked.questions})


def read_questions(run: Path) -> list[Questions]:
    """Return what people are asked in a run, oldest first.

    Raises:
        ConfigError: a line is not as `PersonAuditor` writes it.
    """
    return read_documents(Questions, run / QUESTIONS, "restore it, or start a new run")


def audits_of(run: Path) -> list[Audit]:
    """Return the audits of a run, oldest first, whoever knew whether an episode succeeded.

    Raises:
        NearerError: a file of the run is damaged.
    """
    questions = read_questions(run)
    return _audits(questions, read_answers(run)) if questions else read_audits(run / AUDITS)


def _audits(asked: Sequence[Questions], answers: Mapping[int, Answer]) -> list[Audit]:
    audits = [questions.audit(answers) for questions in asked]
    return [audit for audit in audits if audit is not None]
