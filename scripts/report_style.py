"""The style sheet of a report: light and dark, from a telephone's width to a desk's."""

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --card: #f6f7f9; --ink: #1b1c1e; --muted: #5b6068; --line: #d9dce1;
  --link: #0059a8; --shade: #00000030;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #121316; --card: #1b1d21; --ink: #e8e9eb; --muted: #a2a7af; --line: #363a41;
    --link: #7cc0ff; --shade: #ffffff40;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
header, main, footer { max-width: 74rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
footer { padding-bottom: 2rem; color: var(--muted); font-size: .875rem; }
h1, h2, h3, h4 { line-height: 1.2; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; margin-top: 0; }
h2 { font-size: 1.375rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.125rem; }
h4 { font-size: 1rem; }
p { max-width: 46rem; margin: .5rem 0; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; border-radius: 2px;
}
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--paper); padding: .5rem 1rem; z-index: 1; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none; }
.lead { font-size: 1.0625rem; }
.note { color: var(--muted); font-size: .875rem; }
.scroll {
  overflow-x: auto; max-width: 100%; margin: .75rem 0;
  background:
    linear-gradient(to right, var(--paper) 50%, transparent) left / 1.5rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 50%, transparent) right / 1.5rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / .75rem 100% no-repeat,
    linear-gradient(to left, var(--shade), transparent) right / .75rem 100% no-repeat;
}
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding-bottom: .375rem; }
th, td {
  text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid var(--line);
}
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
th.number, td.number { text-align: right; }
td.number, tbody th { white-space: nowrap; }
tbody th { font-weight: 600; }
td.long { min-width: 24rem; }
td.words { min-width: 9rem; }
tr.group th, tr.group td { border-top: 2px solid var(--line); }
.interval { color: var(--muted); }
code { font: .8125rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; white-space: nowrap; }
.long code, .words code { white-space: normal; overflow-wrap: anywhere; }
.small { display: block; font-weight: 400; color: var(--muted); white-space: normal; }
.figures {
  display: grid; gap: 1rem; margin: 1rem 0; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr));
}
figure {
  margin: 0; padding: .75rem; background: var(--card); border-radius: .5rem; min-width: 0;
}
figure img { display: block; width: 100%; max-width: 42rem; height: auto; margin: 0 auto; }
figure.moving img { max-width: 50rem; }
figcaption { color: var(--muted); font-size: .875rem; margin-top: .5rem; }
summary { cursor: pointer; padding: .25rem 0; }
@media (max-width: 44rem) {
  .interval { display: block; }
  th, td { padding-right: .75rem; }
  thead th { white-space: nowrap; }
}
@media print { figure { break-inside: avoid; } .skip, nav { display: none; } }
"""
