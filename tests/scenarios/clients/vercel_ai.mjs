// Vercel AI SDK: text, streams, objects and tools, over Responses (its default) and over chat: node vercel_ai.mjs MODULES
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.argv[2]}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { embedMany, generateObject, generateText, stepCountIs, streamObject, streamText, tool } = await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");
const { z } = await load("zod");

const name = process.env.LORRY_MODEL;
const provider = createOpenAI({ baseURL: `${process.env.LORRY_URL}/v1`, apiKey: "none" });
const prompt = "Which city is the capital of France, and which river flows through it?";
const schema = z.object({ isCapital: z.boolean(), river: z.enum(["Seine", "Tiber"]) });
const get_weather = tool({
  description: "Return the weather in a city.",
  inputSchema: z.object({ city: z.enum(["Paris", "Rome"]) }),
  execute: async ({ city }) => `sunny in ${city}`,
});

function done(step, facts = {}) {
  console.log(JSON.stringify({ step, ...facts }));
}

function expect(claim, what) {
  if (!claim) throw new Error(`not as expected: ${JSON.stringify(what)}`);
}

async function walk(kind, model) {
  // A small model that may call tools one after the other calls them until its tokens are used up.
  const providerOptions = { openai: { parallelToolCalls: false } };
  const fields = { model, prompt, maxRetries: 0, maxOutputTokens: 40, temperature: 0, providerOptions };
  const told = await generateText(fields);
  expect(told.text && told.usage.outputTokens > 0, told.usage);
  done(`${kind}: generateText`);
  let text = "";
  const stream = streamText({ ...fields, onError: ({ error }) => { throw error; } });
  for await (const part of stream.textStream) text += part;
  expect(text && (await stream.usage).outputTokens > 0, text);
  done(`${kind}: streamText`);
  const { object } = await generateObject({ ...fields, schema });
  expect(typeof object.isCapital === "boolean", object);
  done(`${kind}: generateObject`);
  const objects = streamObject({ ...fields, schema });
  for await (const _ of objects.partialObjectStream);
  expect(typeof (await objects.object).isCapital === "boolean", "streamObject");
  done(`${kind}: streamObject`);
  const called = await generateText({
    ...fields,
    tools: { get_weather },
    stopWhen: stepCountIs(2),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
  });
  expect(called.steps.length === 2, called.steps.length);
  expect(called.steps[0].toolResults[0].output.startsWith("sunny in"), called.steps[0].toolResults);
  done(`${kind}: tools`);
  const run = streamText({ ...fields, tools: { get_weather }, toolChoice: { type: "tool", toolName: "get_weather" } });
  const kinds = new Set();
  for await (const part of run.fullStream) kinds.add(part.type);
  expect(kinds.has("tool-call") && kinds.has("tool-result"), [...kinds]);
  done(`${kind}: streamed tools`);
}

done("client", { version: require("ai/package.json").version, provider: require("@ai-sdk/openai/package.json").version });
await walk("chat", provider.chat(name));
await walk("responses", provider(name));
const { embeddings } = await embedMany({
  model: provider.embedding(process.env.LORRY_ENCODER), values: ["a cat", "a dog"], maxRetries: 0,
});
expect(embeddings.every((vector) => vector.length === 384), embeddings.length);
done("embeddings");
