"""Which plots a replay gets: from its figures to panels, each with a line that says how to read it."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from retrieval_draft.replay.figures import RELIABILITY_BINS, Figures, Share
from retrieval_draft.replay.plot import (
    PLOT_WIDTH,
    Panel,
    Point,
    Series,
    at_values,
    evenly,
    legend,
    linear,
    panel_svg,
    percent,
    range_svg,
)
from retrieval_draft.replay.run import Replay


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of the page."""

    title: str
    caption: str
    html: str


def charts(done: Replay) -> list[Chart]:
    """All that the replay has figures for."""
    drawn = [_mat(done), _reliability(done), _depth(done), _origins(done), _agreement(done)]
    if done.goodput:
        drawn.append(_goodput(done))
    if done.sharing:
        drawn.append(_sharing(done))
    return [*drawn, _time(done)]


def methods_of(done: Replay) -> list[str]:
    """The methods, in the order asked for: a method's place is its colour."""
    return list(dict.fromkeys(run.method for run in done.runs))


def geomean(values: Iterable[float]) -> float:
    """The geometric mean; 0 of none."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0


def _keys(done: Replay, solid: str = "", dashed: str = "") -> str:
    """The methods' colours; where lines come in two kinds, what each of these says."""
    kinds = [(solid, -1, False), (dashed, -1, True)] if dashed else []
    return legend([*((name, i, False) for i, name in enumerate(methods_of(done))), *kinds])


def _budgets(done: Replay) -> list[int]:
    return sorted({run.nodes_max for run in done.runs})


def _of(done: Replay, method: str, nodes: int) -> list[Figures]:
    return [r.figures for r in done.runs if r.method == method and r.nodes_max == nodes]


def _panels(panels: Sequence[Panel]) -> str:
    return f'<div class="panels">{"".join(map(panel_svg, panels))}</div>'


def _by_file(done: Replay, panel: Callable[[str, list[str]], Panel]) -> list[Panel]:
    """One panel a file; before them, of several files, their geometric mean."""
    names = [facts.file for facts in done.files]
    together = [panel("geometric mean of all files", names)] if len(names) > 1 else []
    return together + [panel(name, [name]) for name in names]


def _mat(done: Replay) -> Chart:
    budgets = _budgets(done)

    def panel(title: str, names: list[str]) -> Panel:
        series = []
        for i, method in enumerate(methods_of(done)):
            points = []
            for nodes in budgets:
                runs = [r for r in done.runs if r.method == method and r.nodes_max == nodes]
                mat = geomean(r.figures.mat for r in runs if r.file in names)
                points.append(Point(nodes, mat, f"MAT {mat:.3f} at {nodes} nodes"))
            series.append(Series(method, i, points))
        top = max(point.y for one in series for point in one.points)
        x = at_values([float(n) for n in budgets])
        y = linear(1.0, max(top, 1.2))
        return Panel(title, "node budget", "MAT, tokens per step", x, y, series, rule_at=1.0)

    caption = (
        f"Mean tokens gained per step of the target, the bonus token included, drafting {done.shape}s "
        "of at most so many nodes. 1 is plain decoding. Every point starts cold."
    )
    return Chart("Tokens per step", caption, _keys(done) + _panels(_by_file(done, panel)))


def _reliability(done: Replay) -> Chart:
    budgets = _budgets(done)
    panels = []
    for method in methods_of(done):
        series, notes = [], []
        for i, nodes in enumerate(budgets):
            runs = _of(done, method, nodes)
            points = _bins(runs)
            series.append(Series(f"{nodes} nodes", i, points))
            expected = sum(f.expected * f.steps for f in runs)
            kept = sum(f.kept * f.steps for f in runs)
            gap = f", sum {expected / kept - 1:+.0%}" if kept else ""
            error = sum(f.ece * f.nodes * f.steps for f in runs)
            drafted = sum(f.nodes * f.steps for f in runs) or 1.0
            notes.append(f"{nodes}: ECE {error / drafted:.3f}{gap}")
        panels.append(
            Panel(
                method,
                "returned path probability",
                "share accepted",
                percent(1.0),
                percent(1.0),
                series,
                diagonal=True,
                notes=notes,
            )
        )
    caption = (
        "Nodes grouped by the probability they were returned with (tenths, mean of each), against the "
        "share that was accepted; area is the number of nodes. On the diagonal the probabilities are "
        "right, below it they promise too much. ECE is the mean distance; `sum` is how far all returned "
        "probabilities together miss the accepted nodes. All files pooled; a colour is a budget."
    )
    keys = legend([(f"{nodes} nodes", i, False) for i, nodes in enumerate(budgets)])
    return Chart("Are the probabilities right?", caption, keys + _panels(panels))


def _bins(runs: Sequence[Figures]) -> list[Point]:
    rows = []
    for i in range(RELIABILITY_BINS):
        bins = [figures.reliability[i] for figures in runs]
        if nodes := sum(one.nodes for one in bins):
            said = sum(one.nodes * one.probability for one in bins) / nodes
            kept = sum(one.nodes * one.accepted for one in bins) / nodes
            rows.append((nodes, said, kept))
    most = max((nodes for nodes, _, _ in rows), default=1)
    return [Point(p, k, f"{n} nodes at {p:.1%}, {k:.1%} accepted", n / most) for n, p, k in rows]


def _pooled(rows: Iterable[Sequence[Share]]) -> dict[str, tuple[int, int]]:
    total: dict[str, tuple[int, int]] = {}
    for shares in rows:
        for one in shares:
            drafted, accepted = total.get(one.name, (0, 0))
            total[one.name] = (drafted + one.drafted, accepted + one.accepted)
    return total


def _depth(done: Replay) -> Chart:
    most = _budgets(done)[-1]
    rates, reached = [], []
    for i, method in enumerate(methods_of(done)):
        runs = _of(done, method, most)
        steps = sum(figures.steps for figures in runs)
        rate, reach = [], []
        for name, (drafted, accepted) in _pooled(f.by_depth for f in runs).items():
            depth = int(name)
            if drafted:
                said = f"{accepted} of {drafted} at depth {depth}"
                rate.append(Point(depth, accepted / drafted, said))
            said = f"{accepted / steps:.3f} accepted a step at depth {depth}"
            reach.append(Point(depth, accepted / steps, said))
        rates.append(Series(method, i, rate))
        reached.append(Series(method, i, reach))
    depths = max((p.x for one in reached for p in one.points), default=1.0)
    x = linear(0.0, max(depths, 4.0))
    panels = [
        Panel(title, "depth in the tree", label, x, percent(_top(series)), series)
        for title, label, series in (
            ("Steps that got so deep", "share of steps", reached),
            ("Acceptance of nodes", "accepted of drafted", rates),
        )
    ]
    caption = (
        f"At {most} nodes, all files pooled. Left: the share of steps whose accepted path reaches a depth; "
        "its sum is the drafted part of MAT. Right: of the nodes drafted at a depth, the share accepted."
    )
    return Chart("Acceptance by depth", caption, _keys(done) + _panels(panels))


def _top(series: Sequence[Series]) -> float:
    return max((point.y for one in series for point in one.points), default=0.01)


def _origins(done: Replay) -> Chart:
    most = _budgets(done)[-1]
    by_method: dict[str, tuple[dict[str, tuple[int, int]], int]] = {}
    for method in methods_of(done):
        runs = _of(done, method, most)
        tiers, sources = _pooled(f.by_tier for f in runs), _pooled(f.by_source for f in runs)
        both = {f"{name} tier": counts for name, counts in tiers.items()} | sources
        by_method[method] = both, sum(figures.steps for figures in runs)
    names = list(dict.fromkeys(name for rows, _ in by_method.values() for name in rows))
    rates, gains = [], []
    apart = 0.8 / len(by_method)
    width = 0.9 * apart * PLOT_WIDTH / max(1, len(names))
    for i, (method, (rows, steps)) in enumerate(by_method.items()):
        offset = (i - (len(by_method) - 1) / 2) * apart
        rate, gain = [], []
        for name, (drafted, accepted) in rows.items():
            place, said = names.index(name) + offset, f"{name}, {accepted} of {drafted} accepted"
            rate.append(Point(place, accepted / drafted, said))
            gain.append(Point(place, accepted / steps, said))
        rates.append(Series(method, i, rate, column=width))
        gains.append(Series(method, i, gain, column=width))
    x = evenly([name.removesuffix(" tier") for name in names])
    tier_count = sum(name.endswith(" tier") for name in names)
    label = f"the first {tier_count} are tiers, then sources" if tier_count else "source"
    panels = [
        Panel("Accepted per step", label, "nodes", x, linear(0.0, _top(gains)), gains),
        Panel("Acceptance of nodes", label, "accepted of drafted", x, percent(_top(rates)), rates),
    ]
    caption = (
        f"At {most} nodes, all files pooled. A node counts for every tier and source that proposed it, so "
        "columns add up to more than all."
    )
    return Chart("Where accepted tokens come from", caption, _keys(done) + _panels(panels))


def _agreement(done: Replay) -> Chart:
    most = _budgets(done)[-1]
    lengths: list[int] = []
    series, steps_at = [], {}
    for i, method in enumerate(methods_of(done)):
        total: dict[int, tuple[int, int]] = {}
        for figures in _of(done, method, most):
            for one in figures.by_agreement:
                steps, gained = total.get(one.length, (0, 0))
                total[one.length] = (steps + one.steps, gained + one.gained)
        if i == 0:
            lengths = sorted(total)
            steps_at = {length: total[length][0] for length in lengths}
        points = [
            Point(lengths.index(n), gained / steps, f"MAT {gained / steps:.2f} over {steps} steps")
            for n, (steps, gained) in sorted(total.items())
            if n in lengths
        ]
        series.append(Series(method, i, points))
    every = sum(steps_at.values()) or 1
    bars = [
        Point(i, steps_at[n] / every, f"{steps_at[n] / every:.1%} of the steps")
        for i, n in enumerate(lengths)
    ]
    panel = Panel(
        "Tokens per step by agreement",
        "last tokens seen before (longest run)",
        "MAT, tokens per step",
        evenly([str(n) for n in lengths]),
        linear(1.0, max(_top(series), 1.2)),
        series,
        bars,
    )
    caption = (
        f"At {most} nodes, all files pooled. Steps by how many of the last tokens stood together before, "
        "in this sequence or in an earlier output. The grey columns are the share of steps of "
        f"{methods_of(done)[0]}; the panel's height is all of them."
    )
    return Chart("What repetition brings", caption, _keys(done) + _panels([panel]))


def _goodput(done: Replay) -> Chart:
    def panel(title: str, names: list[str]) -> Panel:
        series = []
        prices = sorted({one.price for one in done.goodput})
        for i, method in enumerate(methods_of(done)):
            priced, fixed = [], []
            for g in prices:
                rows = [
                    one
                    for one in done.goodput
                    if one.method == method and one.price == g and one.file in names
                ]
                rule = geomean(one.goodput for one in rows)
                best = geomean(one.fixed[one.best_fixed] for one in rows)
                nodes = "/".join(str(one.best_fixed) for one in rows)
                priced.append(Point(g, rule, f"{rule:.3f} at g = {g:g}"))
                fixed.append(Point(g, best, f"{best:.3f} at g = {g:g}, fixed {nodes}"))
            series.append(Series(f"{method}, best fixed budget", i, fixed, is_dashed=True))
            series.append(Series(f"{method}, priced", i, priced))
        y = linear(min(1.0, *(p.y for one in series for p in one.points)), _top(series))
        x = at_values(prices)
        return Panel(title, "g, cost of a node", "goodput", x, y, series, rule_at=1.0)

    caption = (
        "Tokens per unit of cost where verifying n nodes costs 1 + g n. Solid: the price rule decides how "
        "much to draft, step by step. Dashed: the best of the fixed budgets 0, 8, 16 and 64, chosen with "
        "hindsight. The rule needs probabilities that are right: count ratios promise too much and lose."
    )
    return Chart(
        "Goodput under load",
        caption,
        _keys(done, "priced", "best fixed") + _panels(_by_file(done, panel)),
    )


def _sharing(done: Replay) -> Chart:
    delay = done.sharing[0].delay

    def panel(title: str, names: list[str]) -> Panel:
        series = []
        counts = sorted({one.replicas for one in done.sharing})
        for i, method in enumerate(methods_of(done)):
            shared: list[Point] = []
            private: list[Point] = []
            for count in counts:
                rows = [
                    one
                    for one in done.sharing
                    if one.method == method and one.replicas == count and one.file in names
                ]
                for points, mat in (
                    (shared, geomean(one.shared_mat for one in rows)),
                    (private, geomean(one.private_mat for one in rows)),
                ):
                    points.append(Point(count, mat, f"MAT {mat:.3f} with {count} replicas"))
            series.append(Series(f"{method}, private", i, private, is_dashed=True))
            series.append(Series(f"{method}, shared", i, shared))
        values = [p.y for one in series for p in one.points]
        x = at_values([float(count) for count in counts])
        return Panel(title, "replicas", "MAT", x, linear(min(values), max(values)), series)

    caption = (
        f"The same sequences dealt to replicas in turn, at {done.sharing[0].nodes_max} nodes. Dashed: each "
        "learns from its own alone. Solid: each also learns the others' outputs, "
        f"{delay} sequences after they ended."
    )
    html = _keys(done, "shared", "private") + _panels(_by_file(done, panel))
    return Chart("What sharing the learned tier is worth", caption, html)


def _time(done: Replay) -> Chart:
    rows = []
    for i, method in enumerate(methods_of(done)):
        for nodes in _budgets(done):
            runs = _of(done, method, nodes)
            steps = sum(figures.steps for figures in runs)
            p50, mean, p99 = (
                sum(getattr(figures, name) * figures.steps for figures in runs) / steps
                for name in ("us_p50", "us_mean", "us_p99")
            )
            rows.append((f"{method} at {nodes}", i, p50, mean, p99))
    caption = (
        "Microseconds per step in one process and thread, drafting and all learning together (a sidecar "
        "learns beside the step): from the median to the 99th percentile, the dot is the mean. Steps of all "
        "files; of several files, their averages weighted by steps."
    )
    return Chart("Time to draft and learn", caption, range_svg(rows, "us per step"))
