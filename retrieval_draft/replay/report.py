"""The replay as one HTML page that needs nothing but itself: plots, how to read them, every number."""

from collections.abc import Sequence
from html import escape

from retrieval_draft import __version__
from retrieval_draft.replay.charts import charts, geomean, methods_of
from retrieval_draft.replay.plot import COLOURS
from retrieval_draft.replay.run import Best, Replay

LIGHT = "#2a78d6 #d9483b #148f64 #b77900 #6a4bc4 #c2487f #56707f #7a8f00 #8a5a3c #008a9e"
DARK = "#5aa2f2 #f0796d #3fbf92 #dda23a #a48cf0 #e57fae #93a9b5 #b3c540 #c39373 #3fbdd0"


def page(done: Replay) -> str:
    """The report, as UTF-8 text of one file without a single outer resource."""
    sections = [
        f"<section><h2>{escape(chart.title)}</h2>{chart.html}<p>{escape(chart.caption)}</p></section>"
        for chart in charts(done)
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Replay of {len(done.files)} files</title><style>{_style()}</style></head><body>"
        f"<main><header><h1>Drafting, replayed</h1><p class='lead'>{_lead(done)}</p></header>"
        f"{_best(done)}{''.join(sections)}{_numbers(done)}"
        f"<footer>retrieval-draft {__version__}</footer></main></body></html>\n"
    )


def _lead(done: Replay) -> str:
    sequences = sum(facts.sequences for facts in done.files)
    tokens = sum(facts.output_tokens for facts in done.files)
    files = f"{len(done.files)} file{'s' * (len(done.files) > 1)}"
    told = (
        f"{files}, {sequences:,} sequences, {tokens:,} output tokens: what drafting would have brought, had "
        "it been there. Recorded outputs are fed to the drafter step by step, as a server would see them. "
    )
    most = max(run.nodes_max for run in done.runs)
    mats = {
        method: geomean(
            r.figures.mat for r in done.runs if r.method == method and r.nodes_max == most
        )
        for method in methods_of(done)
    }
    best = max(mats, key=lambda method: mats[method])
    return (
        f"{escape(told)}At {most} nodes <b>{escape(best)}</b> gains <b>{mats[best]:.2f} tokens per "
        f"step</b>{' in the geometric mean' if len(done.files) > 1 else ''}; plain decoding gains 1."
    )


def _best(done: Replay) -> str:
    """A row a file, a column for every budget and price."""
    budgets = sorted({one.nodes_max for one in done.best if one.nodes_max and one.price is None})
    prices = sorted({one.price for one in done.best if one.price is not None})
    columns = [
        "file",
        *(f"MAT at {nodes} nodes" for nodes in budgets),
        *(f"goodput, g = {price:g}" for price in prices),
    ]
    rows = [
        [
            facts.file,
            *(_named(done, facts.file, nodes, None) for nodes in budgets),
            *(_named(done, facts.file, None, price) for price in prices),
        ]
        for facts in done.files
    ]
    return f"<section><h2>Best settings</h2>{_table(columns, rows, len(columns))}</section>"


def _named(done: Replay, file: str, nodes: int | None, price: float | None) -> str:
    """The best of the file there, and what it reaches."""
    for one in done.best:
        if (
            one.file == file
            and one.price == price
            and (price is not None or one.nodes_max == nodes)
        ):
            return _said(one)
    return "-"


def _said(one: Best) -> str:
    if one.price is None:
        return f"{one.method}, {one.mat:.2f}"
    if one.nodes_max is None:
        return f"{one.method} priced, {one.goodput:.2f}"
    return (
        f"{one.method} fixed at {one.nodes_max}, {one.goodput:.2f}" if one.nodes_max else "plain, 1"
    )


def _numbers(done: Replay) -> str:
    files = [
        (
            f.file,
            f"{f.sequences:,}",
            f"{f.prompt_tokens:,}",
            f"{f.output_tokens:,}",
            f"{f.vocab_size:,}",
            "yes" if f.has_rows else "no",
        )
        for f in done.files
    ]
    runs = [
        (
            r.file,
            r.method,
            str(r.nodes_max),
            f"{r.figures.mat:.3f}",
            f"{r.figures.nodes:.1f}",
            f"{r.figures.kept:.3f}",
            f"{r.figures.expected:.3f}",
            f"{r.figures.expected / r.figures.kept - 1:+.1%}" if r.figures.kept else "-",
            f"{r.figures.ece:.3f}",
            f"{r.figures.us_mean:.0f}",
            f"{r.figures.us_p50:.0f}",
            f"{r.figures.us_p99:.0f}",
            f"{r.figures.answer_us_p50:.0f}",
            f"{r.figures.answer_us_p99:.0f}",
            f"{r.figures.steps:,}",
        )
        for r in done.runs
    ]
    parts = [
        "<section><h2>All numbers</h2><h3>Files</h3>",
        _table(
            ("file", "sequences", "prompt tokens", "output tokens", "vocabulary", "predictions"),
            files,
            1,
        ),
        "<h3>Runs</h3>",
        _table(
            (
                "file",
                "method",
                "budget",
                "MAT",
                "nodes",
                "kept",
                "expected",
                "gap",
                "ECE",
                "us mean",
                "us p50",
                "us p99",
                "answer p50",
                "answer p99",
                "steps",
            ),
            runs,
            2,
        ),
        "<p>Per step: <i>nodes</i> drafted, <i>kept</i> of them, and <i>expected</i>, the sum of the "
        "returned path probabilities; <i>gap</i> is expected over kept. Microseconds: drafting and all "
        "learning in one thread; <i>answer</i>: until the tree was there.</p>",
    ]
    if done.goodput:
        rows = [
            (
                g.file,
                g.method,
                f"{g.price:g}",
                f"{g.goodput:.3f}",
                f"{g.nodes:.1f}",
                *(f"{value:.3f}" for value in g.fixed.values()),
                f"{g.ratio:.3f}",
            )
            for g in done.goodput
        ]
        fixed = tuple(f"fixed {nodes}" for nodes in done.goodput[0].fixed)
        columns = ("file", "method", "g", "priced", "nodes", *fixed, "over best fixed")
        parts += ["<h3>Goodput</h3>", _table(columns, rows, 2)]
    if done.sharing:
        rows = [
            (
                s.file,
                s.method,
                str(s.nodes_max),
                str(s.replicas),
                str(s.delay),
                f"{s.shared_mat:.3f}",
                f"{s.private_mat:.3f}",
                f"{s.shared_mat / s.private_mat - 1:+.1%}",
            )
            for s in done.sharing
        ]
        columns = ("file", "method", "budget", "replicas", "delay", "shared", "private", "gain")
        parts += ["<h3>Sharing</h3>", _table(columns, rows, 2)]
    return "".join(parts) + "</section>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int) -> str:
    """The first `text_columns` to the left, figures to the right."""

    def cell(tag: str, i: int, text: str) -> str:
        kind = "" if i < text_columns else ' class="n"'
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    head = "".join(cell("th", i, name) for i, name in enumerate(columns))
    body = "".join(
        f"<tr>{''.join(cell('td', i, text) for i, text in enumerate(row))}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _style() -> str:
    def colours(values: str) -> str:
        return "".join(f"--c{i}:{value};" for i, value in enumerate(values.split()))

    marks = "".join(
        f".c{i}{{stroke:var(--c{i})}}circle.c{i},rect.c{i}{{fill:var(--c{i})}}"
        for i in range(COLOURS)
    )
    return (
        f":root{{color-scheme:light dark;--ink:#1d2228;--soft:#5c6670;--page:#fbfbfa;--card:#fff;"
        f"--line:#e3e5e8;--bar:#e9ebee;{colours(LIGHT)}}}"
        f"@media(prefers-color-scheme:dark){{:root{{--ink:#e8eaed;--soft:#9aa4ae;--page:#15181b;"
        f"--card:#1d2125;--line:#32383e;--bar:#2b3137;{colours(DARK)}}}}}"
        f"{STYLE}{marks}circle.hollow{{fill:var(--card)}}"
    )


STYLE = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1130px;margin:0 auto;padding:32px 20px 48px}
h1{font-size:28px;margin:0 0 6px}h2{font-size:19px;margin:0 0 10px}h3{font-size:15px;margin:18px 0 6px}
.lead{max-width:72ch;margin:0 0 20px;font-size:16px}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;margin:0 0 18px;
padding:18px 20px}
section>p{max-width:84ch;margin:10px 0 0;color:var(--soft)}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:10px 18px}
svg{display:block;width:100%;height:auto}svg.wide{max-width:820px}
.panels svg{max-width:460px}
text{fill:var(--ink);font:11px system-ui,sans-serif}
.title{font-size:12.5px;font-weight:600}.tick,.note{fill:var(--soft)}.label{fill:var(--soft);font-size:11.5px}
.note{font-variant-numeric:tabular-nums}
.grid{stroke:var(--line)}.axis{stroke:var(--soft)}.ideal{stroke:var(--soft);stroke-dasharray:2 4}
.bar{fill:var(--bar)}.grey{stroke:var(--soft)}.column{stroke:none}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.dashed{stroke-dasharray:5 4}
.range{stroke-width:5;stroke-linecap:round;stroke-opacity:.45}
.dot{stroke-width:1.5;fill-opacity:.8}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 8px;color:var(--soft);font-size:13px}
.key{display:inline-flex;align-items:center;gap:6px}.swatch{width:26px;height:10px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:3px 12px 3px 0;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}.n{text-align:right}
footer{color:var(--soft);font-size:13px}
"""
