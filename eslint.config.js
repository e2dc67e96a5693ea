import eslint from "@eslint/js";
import tseslint from "typescript-eslint";

// Node's own globals that the plain scripts use.
const nodeGlobals = Object.fromEntries(
  ["process", "console", "setTimeout", "setInterval", "clearInterval", "URL", "Buffer"].map((name) => [
    name,
    "readonly",
  ]),
);

export default tseslint.config(
  { ignores: ["dist/", "node_modules/", ".engine/", ".hookplane/", ".tmp/"] },
  eslint.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // Numbers and booleans in template literals print as one expects.
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true },
      ],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", ignoreRestSiblings: true }],
      // One transaction signature serves a database that answers at once and one that does not.
      "@typescript-eslint/require-await": "off",
      eqeqeq: "error",
      "no-console": "error",
    },
  },
  {
    files: ["**/*.js"],
    languageOptions: { globals: nodeGlobals },
  },
  // Tests and scripts print for people, and look into values whose shape they have just asserted.
  {
    files: [
      "test/**/*.ts",
      "scripts/**/*.ts",
      "bench/**/*.ts",
      "examples/**/*.ts",
      "demo/**/*.ts",
      "**/*.test.ts",
      "**/*.suite.ts",
      "cli/**/*.ts",
    ],
    rules: {
      "no-console": "off",
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unsafe-assignment": "off",
      "@typescript-eslint/no-unsafe-member-access": "off",
      "@typescript-eslint/no-unsafe-argument": "off",
      "@typescript-eslint/no-unsafe-call": "off",
      "@typescript-eslint/no-unsafe-return": "off",
    },
  },
);
