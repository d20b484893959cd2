// Answers each line of standard input, a JSON list of formulas, with a line of their HTML.
import { createInterface } from "node:readline";
import katex from "katex";

for await (const line of createInterface({ input: process.stdin })) {
  let tex;
  try {
    const html = [];
    for (const formula of JSON.parse(line)) {
      tex = formula.tex;
      html.push(
        katex.renderToString(tex, {
          displayMode: formula.display,
          output: "htmlAndMathml",
          strict: "error",
          throwOnError: true,
          trust: ({ command }) => command === "\\href",
        }),
      );
    }
    console.log(JSON.stringify({ html }));
  } catch (error) {
    console.log(JSON.stringify({ error: error.message, tex }));
  }
}
