// What the evaluation says about the slice in view: sizes, DSC, bounds kept or broken, run by run.

function cell(row, text, kind = "td", name = "") {
  const made = document.createElement(kind);
  made.textContent = text; // never as HTML: names of runs may hold anything
  if (name) made.className = name;
  row.append(made);
  return made;
}

function number(value, missing) {
  if (value === null) return missing;
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

function bracket(lower, upper) {
  if (lower === null && upper === null) return "unknown";
  if (lower === null) return "at most " + number(upper, "");
  if (upper === null) return "at least " + number(lower, "");
  return number(lower, "") + " to " + number(upper, "");
}

// Rows of one slice (index), or of the whole volume (null).
function fillFacts(body, index, data, about) {
  body.replaceChildren();
  const add = (head, what, predicted, expected, verdict, name, source) => {
    const row = document.createElement("tr");
    cell(row, head, "th").scope = "row";
    cell(row, what).title = source || "";
    cell(row, predicted);
    cell(row, expected);
    cell(row, verdict, "td", name);
    body.append(row);
  };
  about.runs.forEach((run, i) => {
    for (const [className, slice, dice, predicted, reference] of data.measures[i]) {
      if (slice !== index) continue;
      const verdict = dice === null ? "DSC undefined" : "DSC " + dice.toFixed(3);
      add(run, className + ", px", number(predicted, "-"), "true " + number(reference, "-"), verdict, "");
    }
    for (const [constraint, slice, lower, upper, soft, hard, softKept, kept, source] of data.bounds[i]) {
      if (slice !== index) continue;
      const values = number(hard, "-") + " (soft " + number(soft, "-") + ")";
      // the word besides the colour; soft and argmax may differ
      const verdict = (kept ? "✓ kept" : "✗ broken") + (softKept === kept ? "" : softKept ? ", soft kept" : ", soft broken");
      const shown = about.constraints[constraint] + (source ? " · " + source : "");
      add(run, shown, values, "bounds " + bracket(lower, upper), verdict, kept ? "kept" : "broken", source);
    }
  });
  if (!body.rows.length) {
    const row = document.createElement("tr");
    cell(row, "nothing was measured here").colSpan = 5;
    body.append(row);
  }
}
