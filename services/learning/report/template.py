"""The page's frame, as a Jinja template. Everything that is put in is escaped; there is no script and no link."""

from typing import Final

STYLE: Final = """
:root { --ink: #222; --soft: #5f5f5f; --line: #d9d9d9; --blue: #0072b2; --red: #b34700; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--ink);
  background: #fff; max-width: 58rem; margin: 2rem auto 4rem; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .5rem; border-top: 1px solid var(--line); padding-top: 1.25rem; }
h3 { font-size: 1.02rem; margin: 1.75rem 0 .5rem; }
p, li { max-width: 46rem; }
.soft { color: var(--soft); font-size: .92rem; }
.short { background: #f5f7f9; border-left: 4px solid var(--blue); padding: .75rem 1.25rem; margin: 1.25rem 0; }
.short ul { margin: 0; padding-left: 1.1rem; }
.alarm { border-left-color: var(--red); background: #fdf4ee; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .75rem 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; max-width: 34rem; }
th { font-weight: 600; border-bottom-color: var(--soft); }
td.n, th.n { text-align: right; white-space: nowrap; }
td:first-child { max-width: 16rem; }
tr.chance td { color: var(--soft); }
summary { cursor: pointer; color: var(--blue); margin: .75rem 0; }
@media print { body { margin: 0; max-width: none; } details > * { display: block; } img { break-inside: avoid; } }
"""

PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Loyalty risk, model {{ model.version }}</title>
<style>{{ style }}</style>
</head>
<body>
{% macro picture(name) %}{% if name in pictures %}
<img src="data:image/png;base64,{{ pictures[name].base64 }}" alt="{{ pictures[name].says }}">
{% endif %}{% endmacro %}
{%- macro effects(rows, money) %}
<div class="wide"><table>
<tr><th>touchpoint</th><th>felt</th><th class="n">customers</th>
<th class="n">{{ "spent" if money else "observed" }}</th><th class="n">expected</th>
<th class="n">{{ "difference" if money else "points" }} [5 to 95 %]</th>
<th class="n">ratio</th><th class="n">q</th><th class="n">against others there</th></tr>
{% for m in rows %}<tr{% if not m.found %} class="chance"{% endif %}>
<td>{{ m.touchpoint or "any touchpoint" }}{% if m.journey %}
<span class="soft">in {{ m.journey }}</span>{% endif %}</td>
<td>{{ m.feeling }}</td><td class="n">{{ m.effect.customers | count }}</td>
{% if money %}<td class="n">{{ m.effect.observed | amount }}</td><td class="n">{{ m.effect.expected | amount }}</td>
<td class="n">{{ m.effect.difference | interval(2) }}</td>
{% else %}<td class="n">{{ m.effect.observed | percent }}</td><td class="n">{{ m.effect.expected | percent }}</td>
<td class="n">{{ m.effect.difference | interval(1, 100) }}</td>{% endif %}
<td class="n">{{ (m.effect.ratio | number(2)) if m.effect.ratio is not none }}</td>
<td class="n">{{ (m.q | number(3)) if m.q >= 0.001 else "< 0.001" }}</td>
<td class="n">{% if m.among_touched is none %}too few{% else -%}
{{ m.among_touched.difference | interval(2 if money else 1, 1 if money else 100) }}
{%- if m.found and not m.holds_there %}<br>not surely{% endif %}{% endif %}</td></tr>
{% endfor %}</table></div>
{%- endmacro %}
<h1>Loyalty risk: what was learnt</h1>
<p class="soft">Model {{ model.version }}, report of {{ made_at }}</p>
<div class="short{% if drift and drift.drifted %} alarm{% endif %}"><ul>
{% for sentence in in_short %}<li>{{ sentence }}</li>
{% endfor %}</ul></div>

<h2>What each layer added</h2>
<p>The base knows only on which days a customer came. Each layer is tried on top of those that stayed, and stays only
where it predicts better than chance explains. {{ judged_by }}</p>
{{ picture("layers") }}
<table>
<tr><th>layer</th><th>holds</th><th>what it added</th></tr>
<tr><td>base</td><td>days of coming</td><td>
{% for name, q in model.base_quality -%}
{{ name.upper() }}/NBD: AUC {{ q.auc | number(3) }}, Brier {{ q.brier | number(4) }}, ECE {{ q.ece | number(4) }}
on {{ q.n | count }} predictions{{ " (taken)" if name == model.base.variant and model.base_quality|length > 1 }}.
{% else -%}
No outcome to measure it by yet.{% endfor %}</td></tr>
{% for row in layers %}<tr><td>+&nbsp;{{ row.name }}</td><td>{{ row.about }}</td><td>{{ row.sentence }}</td></tr>
{% endfor %}</table>

<h2>How good the risk is</h2>
{% if held_out %}<p>{{ held_out.described }} {{ held_out.label|length | count }} customers,
{{ held_out.label.mean() | percent }} of them did not come back.</p>
<table>
<tr><th>judge</th><th class="n">AUC</th><th class="n">Brier</th><th class="n">ECE</th><th class="n">log-loss</th></tr>
{% for name, q in qualities %}<tr><td>{{ name }}</td><td class="n">{{ q.auc | number(3) }}</td>
<td class="n">{{ q.brier | number(4) }}</td><td class="n">{{ q.ece | number(4) }}</td>
<td class="n">{{ q.log_loss | number(4) }}</td></tr>
{% endfor %}</table>
<p class="soft">AUC: chance that a leaver has the higher risk than a stayer (0.5 is blind). Brier: mean squared error of
the chance. ECE: mean distance between predicted and observed share over tenths. Log-loss: surprise at what happened. Of
the last three, lower is better.</p>
{{ picture("reliability") }}
{% if held_out.both_outcomes %}{{ picture("lift") }}
{% else %}<p>Only one outcome was seen, so ranking cannot be judged and there is no lift curve.</p>{% endif %}
{% else %}<p>No held-out customers were given to this report: reliability and lift are not shown. The table above has
what the fit itself measured out of sample.</p>{% endif %}

<h2>Moments of truth: stay, say, spend</h2>
{% if not moments %}<p>Not looked at for this report.</p>
{% else %}<p>Customers who felt a touchpoint badly or well in the {{ moments.window_days }} days before a date, against
what was to be expected of them in the {{ moments.horizon_days }} days after: by their base chance of leaving and, for
spending, by what they spent before; both corrected by how far off that was for like customers at the same date who
felt it neither way. <strong>These are associations.</strong> Who felt badly may differ in other ways; the last column
compares with others who felt something at the same touchpoint. Where that says "not surely", the finding may be of who
goes there rather than of how it felt.</p>
<p class="soft">{{ moments.customers | count }} customers at {{ moments.dates | length }}
{{ "date" if moments.dates | length == 1 else "dates" }} ({{ moments.dates | map("day") | join(", ") }});
{{ moments.felt_customers | count }} of them felt anything in the windows. {{ moments.tried }} comparisons,
{{ moments.too_few }} more left out for want of customers or outcomes. q: share of findings at this q or below that may
be chance (Benjamini-Hochberg over all comparisons); grey rows (q above 0.05) may be chance.</p>
{% for note in moments.notes %}<p>Note: {{ note }}.</p>
{% endfor %}
{% if moments.tried %}{{ picture("moments") }}
{% for outcome, title, found, others in by_outcome %}<h3>{{ title }}</h3>
{% if found %}{{ effects(found, outcome == "spent") }}
{% else %}<p>Nothing was found that could be told from chance.</p>{% endif %}
{% if others %}<details><summary>{{ others | length }} comparisons that may be chance</summary>
{{ effects(others, outcome == "spent") }}</details>{% endif %}
{% endfor %}
{% if currency %}<p class="soft">Spend in {{ currency }} a horizon.</p>{% endif %}
{% elif not moments.notes %}<p>Too few customers felt the same to compare any.</p>{% endif %}
{% endif %}

<h2>Why a customer is at risk</h2>
{% for example in examples %}<h3>Customer {{ example.customer_id }}: risk {{ example.risk | percent }}</h3>
{{ picture("customer-" ~ loop.index) }}
<table>
<tr><th>reason</th><th class="n">log-odds</th></tr>
<tr><td>the average customer</td><td class="n">{{ example.average | signed(2) }}</td></tr>
{% for sentence, size in example.ordered %}<tr><td>{{ sentence }}</td><td class="n">{{ size | signed(2) }}</td></tr>
{% endfor %}<tr><td><strong>together</strong></td>
<td class="n"><strong>{{ example.log_odds | signed(2) }}</strong></td></tr>
</table>
{% else %}<p>No customer was chosen for this report.</p>{% endfor %}
{% if examples %}<p class="soft">Log-odds add up: 0.7 doubles the odds of not coming back, −0.7 halves them. Reasons say
what moved the number, not what caused it.</p>{% endif %}

<h2>Does the model still hold?</h2>
{% if drift %}<p{% if drift.drifted %} class="short alarm"{% endif %}>{{ drift.sentence }}</p>
{{ picture("drift") }}
<p class="soft">Model {{ drift.version }}: AUC {{ drift.quality.auc | number(3) }},
Brier {{ drift.quality.brier | number(4) }}, ECE {{ drift.quality.ece | number(4) }}; observed over expected
{{ drift.ratio | number(2) }}. No surprise: what chance does, and what periods usually differ by (a standard deviation
of {{ drift.spread | number(2) }} in log-odds).</p>
<table>
<tr><th class="n">customers</th><th class="n">predicted</th><th class="n">observed</th><th class="n">5 to 95 %</th></tr>
{% for b in drift.bins %}<tr><td class="n">{{ b.n | count }}</td><td class="n">{{ b.chance | percent }}</td>
<td class="n">{{ b.observed | percent }}</td><td class="n">{{ b.low | percent }} to {{ b.high | percent }}</td></tr>
{% endfor %}</table>
{% else %}<p>No earlier risks were given whose horizon has ended: drift is not known yet.</p>{% endif %}

<h2>What it rests on</h2>
<table>
{% for name, value in facts %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}</table>
{% if model.notes %}<h3>Notes of the fit</h3>
<ul>{% for note in model.notes %}<li>{{ note }}</li>
{% endfor %}</ul>{% endif %}
<details><summary>Parameters</summary>
<table>
<tr><th>parameter</th><th class="n">value</th></tr>
{% for name, value in parameters %}<tr><td>{{ name }}</td><td class="n">{{ value }}</td></tr>
{% endfor %}</table>
{% if coefficients %}<table>
<tr><th>feature</th><th class="n">coefficient</th><th class="n">mean</th><th class="n">standard deviation</th></tr>
{% for name, coefficient, mean, scale in coefficients %}<tr><td>{{ name }}</td>
<td class="n">{{ coefficient | signed(4) }}</td><td class="n">{{ mean | signed(4) }}</td>
<td class="n">{{ scale | number(4) }}</td></tr>
{% endfor %}</table>{% endif %}
</details>
</body>
</html>
"""
