// openai-node: chat, streams, tools, structured output, responses, models: node openai_node.mjs MODULES
import { createRequire } from "node:module";

const require = createRequire(`${process.argv[2]}/`);
const { OpenAI } = require("openai");
const { zodResponseFormat } = require("openai/helpers/zod");
const { z } = require("zod");
const { VERSION } = require("openai/version");

const model = process.env.LORRY_MODEL;
const client = new OpenAI({ baseURL: `${process.env.LORRY_URL}/v1`, apiKey: "none", maxRetries: 0 });
const question = "Which city is the capital of France, and which river flows through it?";
const messages = [{ role: "user", content: question }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};
const tool = { type: "function", function: { name: "get_weather", strict: true, parameters } };
const City = z.object({ isCapital: z.boolean(), river: z.enum(["Seine", "Tiber"]) });

function done(step, facts = {}) {
  console.log(JSON.stringify({ step, ...facts }));
}

function expect(claim, what) {
  if (!claim) throw new Error(`not as expected: ${JSON.stringify(what)}`);
}

async function collected(stream) {
  const found = [];
  for await (const each of stream) found.push(each);
  return found;
}

done("client", { version: VERSION });
const told = await client.chat.completions.create({ model, messages, max_completion_tokens: 12, n: 2 });
expect(told.choices.length === 2 && told.usage.completion_tokens > 0, told);
done("chat");
const asked = { model, messages, max_tokens: 12, stream: true, stream_options: { include_usage: true } };
const chunks = await collected(await client.chat.completions.create(asked));
expect(chunks.at(-1).usage.completion_tokens > 0, chunks.at(-1));
done("stream");
const parsed = await client.chat.completions.parse({
  model, messages, temperature: 0, max_tokens: 40, response_format: zodResponseFormat(City, "city"),
});
expect(typeof parsed.choices[0].message.parsed.isCapital === "boolean", parsed);
done("structured");
const called = await client.chat.completions.create({
  model, messages, temperature: 0, max_tokens: 40, tools: [tool], tool_choice: "required", parallel_tool_calls: false,
});
expect(called.choices[0].finish_reason === "tool_calls", called);
expect("city" in JSON.parse(called.choices[0].message.tool_calls[0].function.arguments), called);
done("tools");
let isAsked = 0;
const runner = client.chat.completions.runTools(
  {
    model, messages, temperature: 0, max_tokens: 40, stream: true,
    tool_choice: { type: "function", function: { name: "get_weather" } },
    tools: [{ type: "function", function: { ...tool.function, parse: JSON.parse, function: () => { isAsked += 1; return "sunny"; } } }],
  },
  { maxChatCompletions: 2 },
);
await runner.done().catch(() => {});
expect(isAsked > 0, "the tool was not called");
done("streamed tools");
const response = await client.responses.create({ model, input: question, temperature: 0, max_output_tokens: 16 });
expect(response.output_text, response);
const events = await collected(
  await client.responses.create({ model, input: "And?", previous_response_id: response.id, max_output_tokens: 16, stream: true }),
);
expect(events[0].type === "response.created", events[0]);
expect(["response.completed", "response.incomplete"].includes(events.at(-1).type), events.at(-1));
done("responses");
expect((await collected(client.models.list())).some((each) => each.id === model), "list");
const error = await client.models.retrieve("no/such").catch((each) => each);
expect(error instanceof OpenAI.NotFoundError && error.code === "model_not_found", error);
done("models and errors");
