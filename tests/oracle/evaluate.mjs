// Answers one line of JSON for each line that it reads: {"policy", "provider", "role", "context"} → {"result"} or {"error"}.
// The evaluator is looked up in the folder that the first argument names, where `npm ci` put it.
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";

const load = createRequire(path.resolve(process.argv[2], "package.json"));
const { runSimulation } = load("@cloud-copilot/iam-simulate");

for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}

async function answer({ policy, provider, role, context }) {
  try {
    const found = await runSimulation(
      {
        request: {
          principal: provider,
          action: "sts:AssumeRoleWithWebIdentity",
          resource: { resource: role, accountId: role.split(":")[4] },
          contextVariables: context,
        },
        identityPolicies: [],
        serviceControlPolicies: [],
        resourceControlPolicies: [],
        resourcePolicy: policy,
      },
      {},
    );
    if (found.resultType === "error") return { error: JSON.stringify(found.errors) };
    return { result: found.overallResult, ignored: found.result.ignoredContextKeys };
  } catch (error) {
    return { error: String(error) };
  }
}
