// What is wrong with a run, or worth knowing: a line each, which leads to its layer and its iteration.
import { withCommas } from "./format.js";
import { element, pressable } from "./dom.js";

/** @returns {string} what a finding says, and in which iteration, where its own words do not say that */
export function findingText({ text, level, iteration }, hasIterations) {
  if (level !== "finding") return text;
  const where = `iteration ${withCommas(iteration)}`;
  const isSaid = new RegExp(where + "\\b").test(text);
  return `⚠ ${text}${hasIterations && !isSaid ? " · " + where : ""}`;
}

/** @param {(finding: object) => void} choose */
export function createFindings(choose) {
  let shown = "";
  const el = element("ul", { class: "nm-findings", "aria-label": "findings", "aria-live": "polite", hidden: true });

  function line(finding, hasIterations) {
    const text = findingText(finding, hasIterations);
    const button = pressable(text, "finding", () => choose(finding), { class: finding.level === "finding" ? "nm-flag-text" : "nm-quiet" });
    return element("li", {}, finding.name ? button : text);
  }

  return {
    el,
    /** Show findings; a list that is the same stays, or a press on it would be lost. */
    show(findings, hasIterations) {
      const now = JSON.stringify([findings, hasIterations]);
      if (now === shown) return;
      shown = now;
      el.hidden = !findings.length;
      el.replaceChildren(...findings.map((each) => line(each, hasIterations)));
    },
  };
}
