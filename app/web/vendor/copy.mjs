// Copies what the pages load out of node_modules, without the references to source maps.
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";

const files = {
  "preact-htm.js": "htm/preact/standalone.module.js",
  "tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
  "chart.umd.min.js": "chart.js/dist/chart.umd.min.js",
};
for (const [name, source] of Object.entries(files)) {
  const text = readFileSync(`node_modules/${source}`, "utf-8");
  writeFileSync(name, text.replace(/\n?(\/\*|\/\/)# sourceMappingURL=.*\n?/, "\n"));
}
copyFileSync("node_modules/htm/LICENSE", "LICENSE-htm.txt");
copyFileSync("node_modules/chart.js/LICENSE.md", "LICENSE-chart.js.txt");
