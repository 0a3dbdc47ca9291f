"""What `top` shows: a table of namespaces, and of the selected one a closer look. Fits 80 x 24."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval_draft.cli.figures import figure, percent
from retrieval_draft.cli.output import size
from retrieval_draft.cli.watching import Watched
from retrieval_draft.rates import mean_accepted_length, rates_of, ratio, since, step_us
from retrieval_draft.v1 import store_pb2 as pb

VIEWS = ("tiers", "sources", "methods", "match lengths", "depths", "stages")
FIELDS = {"match lengths": "match_lengths"}
KEYS = "q quit   up/down namespace   tab view"
CHROME_ROWS = 6
"""Title, heads of both tables, blank line, title of the view, keys."""
NAMESPACES_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """One namespace of one sidecar: as it is now, and what came in the window."""

    sidecar: int
    now: pb.NamespaceStats
    new: pb.NamespaceStats
    seconds: float


def lines_of(all_: Sequence[Watched]) -> list[Line]:
    """Of every sidecar that answers, in their order."""
    found = []
    for number, watched in enumerate(all_, start=1):
        readings = list(watched.readings)
        if not readings:
            continue
        first, last = readings[0], readings[-1]
        known = {one.namespace: one for one in first.namespaces}
        seconds = last.unix_seconds - first.unix_seconds
        for one in last.namespaces:
            before = known.get(one.namespace, pb.NamespaceStats())
            found.append(Line(number, one, since(before, one), seconds))
    return found


class Screen:
    """What is selected, and how it is drawn; a key changes it."""

    def __init__(self) -> None:
        self.selected = 0
        self.view = 0

    def press(self, key: str) -> bool:
        """Whether to go on."""
        if key in ("q", "Q", "\x03"):
            return False
        if key == "k":
            self.selected = max(0, self.selected - 1)
        elif key == "j":
            self.selected += 1
        elif key == "tab":
            self.view = (self.view + 1) % len(VIEWS)
        return True

    def drawn(self, all_: Sequence[Watched], height: int, now: float) -> RenderableType:
        """One screen of at most `height` lines."""
        lines = lines_of(all_)
        self.selected = max(0, min(self.selected, len(lines) - 1))
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        parts: list[RenderableType] = [
            Text(f"retrieval-draft top   {clock}   the last 10 s", style="bold", no_wrap=True)
        ]
        parts += [_sidecar(i, one, single=len(all_) == 1) for i, one in enumerate(all_, start=1)]
        room = max(4, height - CHROME_ROWS - len(all_))
        if lines:
            top = max(1, min(len(lines), int(room * NAMESPACES_SHARE)))
            first = max(0, min(self.selected - top // 2, len(lines) - top))
            parts.append(self._namespaces(lines, first, top, many=len(all_) > 1))
            parts.append(self._closer(lines[self.selected], room - top))
        elif any(one.readings for one in all_):
            parts.append(Text("no namespaces yet: retrieval-draft warm, or a worker, creates one"))
        parts.append(Text(KEYS, style="dim", no_wrap=True))
        return Group(*parts)

    def _namespaces(self, lines: Sequence[Line], first: int, count: int, *, many: bool) -> Table:
        table = _table(
            "namespace", ("steps/s", "tok/s", "MAT", "accept", "p50 us", "p99 us", "lag")
        )
        for i, line in enumerate(lines[first : first + count], start=first):
            rates, new = rates_of(line.new), line.new
            p50, p99 = step_us(new)
            name = f"{line.sidecar}:{line.now.namespace}" if many else line.now.namespace
            away = "" if line.now.connected else " (store away)"
            table.add_row(
                Text(("> " if i == self.selected else "  ") + name + away, no_wrap=True),
                figure(ratio(new.steps, line.seconds), 1),
                figure(ratio(new.tokens, line.seconds), 1),
                figure(rates.mat),
                percent(rates.acceptance_rate),
                figure(p50, 0),
                figure(p99, 0),
                str(line.now.lag_records),
                style="bold" if i == self.selected else "",
            )
        return table

    def _closer(self, line: Line, room: int) -> RenderableType:
        view, now = VIEWS[self.view], line.now
        head = Text(
            f"\n{now.namespace}: {view}   learned {now.learned_tokens} tokens "
            f"({size(now.learned_bytes)})   corpora {size(now.corpus_bytes)}   "
            f"sequences {now.sequences}   dropped {now.dropped_records}",
            no_wrap=True,
            overflow="ellipsis",
        )
        if view == "stages":
            table = _table("stage", ("steps", "mean us", "p50 us", "p99 us"))
            for timing in list(line.new.timings)[:room]:
                mean = ratio(timing.sum_us, timing.count)
                figures = (mean, timing.p50_us, timing.p99_us)
                table.add_row(timing.stage, str(timing.count), *(figure(one, 0) for one in figures))
            return Group(head, table)
        columns = ("steps", "hits", "drafted", "accepted", "accept", "length", "exp/kept")
        table = _table(view.removesuffix("s"), columns)
        rows = [row for row in getattr(line.new, FIELDS.get(view, view)) if row.drafted]
        if not rows:
            return Group(head, Text("nothing was drafted and verified in the last 10 s"))
        for row in rows[:room]:
            table.add_row(
                row.name,
                str(row.steps),
                percent(ratio(row.hits, row.steps)),
                str(row.drafted),
                str(row.accepted),
                percent(ratio(row.accepted, row.drafted)),
                figure(mean_accepted_length(row)),
                figure(ratio(row.expected, row.accepted)),
            )
        return Group(head, table)


def _sidecar(number: int, one: Watched, *, single: bool) -> Text:
    name = one.target if single else f"{number}: {one.target}"
    readings = list(one.readings)  # its thread may clear them meanwhile
    if not readings:
        said, style = f"{name}   {one.problem}", "bold red"
    else:
        last = readings[-1]
        problems = sum(len(found.problems) for found in last.namespaces)
        amiss = f"   {problems} problems: see retrieval-draft stats" if problems else ""
        said = f"{name}   up {last.uptime_seconds:.0f} s   {last.replica_id}{amiss}"
        style = "yellow" if problems else "dim"
    return Text(said, style=style, no_wrap=True, overflow="ellipsis")


def _table(first: str, columns: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", expand=False)
    table.add_column(first, no_wrap=True, overflow="ellipsis", max_width=30)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table
