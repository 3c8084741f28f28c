// The same walk as sdk_walk.py by openai-node: node sdk_walk.mjs BASE_URL NAME NOTICES MODULES TYPED
// MODULES is the folder of node_modules; TYPED the TypeScript file that the answers are written to, each with its type,
// for the compiler to check.
import { File } from "node:buffer";
import { createHash, webcrypto } from "node:crypto";
import fs from "node:fs";
import { createRequire } from "node:module";

// The SDK asks for Node 20, which has these; Debian 12 has Node 18.
globalThis.File ??= File;
globalThis.crypto ??= webcrypto;

const [baseURL, name, notices, modules, typed] = process.argv.slice(2);
const { OpenAI, toFile } = createRequire(`${modules}/`)("openai");
const { VERSION } = createRequire(`${modules}/`)("openai/version");
const webhookSecret = "whsec_bG9ycnktdGVzdC1zZWNyZXQtb2YtMzItYnl0ZXMhISE=";
const client = new OpenAI({ baseURL, apiKey: "none", adminAPIKey: "none", maxRetries: 0, webhookSecret });

const OURS = new Set(["lorry", "user_provided_suffix", "other_error_details"]);
const content = Buffer.from(
  [...Array(10).keys()]
    .map((n) => JSON.stringify({ messages: [{ role: "user", content: `say ${n}` }, { role: "assistant", content: `${n} it is` }] }))
    .join("\n"),
);
const method = {
  type: "supervised",
  supervised: {
    hyperparameters: {
      n_epochs: 2, batch_size: 5, learning_rate_multiplier: "auto", checkpoint_steps: 2, lora_rank: 2,
      target_modules: ["q_proj", "v_proj"],
    },
  },
};
const answers = [];

function expect(claim, what) {
  if (!claim) throw new Error(what);
}

function note(type, value) {
  answers.push([type, JSON.stringify(value, (key, inner) => (OURS.has(key) ? undefined : inner))]);
}

// Returns the JSON of an answer as it came, noted for the compiler.
async function typedAs(type, call) {
  const response = await call.asResponse();
  const body = await response.json();
  const path = new URL(response.url).pathname;
  console.log(`${path} -> ${response.status} ${type}`);
  note(type, body);
  return body;
}

async function typedPage(type, call) {
  const response = await call.asResponse();
  const page = await response.json();
  console.log(`${new URL(response.url).pathname} -> ${response.status} list of ${type}`);
  expect(page.object === "list" && typeof page.has_more === "boolean", "not a list");
  note(`Array<${type}>`, page.data);
  return page.data;
}

async function collected(pages) {
  const found = [];
  for await (const each of pages) found.push(each);
  return found;
}

const pause = () => new Promise((done) => setTimeout(done, 500));

async function until(what, look) {
  const deadline = Date.now() + 300_000;
  while (Date.now() < deadline) {
    const found = await look();
    if (found) return found;
    await pause();
  }
  throw new Error(`waited in vain for ${what}`);
}

async function walkFiles() {
  const file = await toFile(content, "rows.jsonl");
  const expires_after = { anchor: "created_at", seconds: 3600 };
  const made = await typedAs("OpenAI.FileObject", client.files.create({ file, purpose: "fine-tune", expires_after }));
  expect(made.expires_at === made.created_at + 3600, "expires_at");
  const listed = await typedPage("OpenAI.FileObject", client.files.list({ purpose: "fine-tune", limit: 1 }));
  expect(listed[0].id === made.id, "the newest first");
  await typedAs("OpenAI.FileObject", client.files.retrieve(made.id));
  expect((await (await client.files.content(made.id)).text()) === content.toString(), "content");
  await typedAs("OpenAI.FileDeleted", client.files.delete(made.id));
}

async function walkUploads() {
  const facts = { filename: "a", mime_type: "text/jsonl", purpose: "fine-tune" };
  const left = await typedAs("OpenAI.Upload", client.uploads.create({ bytes: 9, ...facts }));
  await typedAs("OpenAI.Upload", client.uploads.cancel(left.id));
  const upload = await typedAs("OpenAI.Upload", client.uploads.create({ bytes: content.length, ...facts }));
  const part_ids = [];
  for (const data of [content.subarray(0, 100), content.subarray(100)]) {
    const part = client.uploads.parts.create(upload.id, { data: await toFile(data, "part") });
    part_ids.push((await typedAs("OpenAI.Uploads.UploadPart", part)).id);
  }
  const md5 = createHash("md5").update(content).digest("hex");
  const done = await typedAs("OpenAI.Upload", client.uploads.complete(upload.id, { part_ids, md5 }));
  return done.file.id;
}

async function walkJobs(training_file) {
  const { jobs } = client.fineTuning;
  const facts = { model: "tiny", training_file, method, seed: 7 };
  const waiting = await typedAs("Job", jobs.create({ ...facts, suffix: `${name}-left` }));
  await jobs.pause(waiting.id);
  await until("the pause", async () => (await jobs.retrieve(waiting.id)).status === "paused");
  console.log(`/v1/fine_tuning/jobs/${waiting.id}/pause -> paused`);
  await typedAs("Job", jobs.resume(waiting.id));
  await typedAs("Job", jobs.cancel(waiting.id));
  const metadata = { walk: name };
  const job = await typedAs("Job", jobs.create({ ...facts, suffix: name, metadata, validation_file: training_file }));
  const found = await typedPage("Job", jobs.list({ limit: 1, metadata }));
  expect(found.length === 1 && found[0].id === job.id, "metadata");
  const without = await typedPage("Job", jobs.list({ limit: 100 }, { query: { limit: 100, metadata: "null" } }));
  expect(without.every((each) => each.id !== job.id), "metadata=null");
  await until("the end of the job", async () => ["succeeded", "failed"].includes((await jobs.retrieve(job.id)).status));
  const ended = await typedAs("Job", jobs.retrieve(job.id));
  expect(ended.status === "succeeded", JSON.stringify(ended.error));
  await typedPage("OpenAI.FineTuning.FineTuningJobEvent", jobs.listEvents(job.id, { limit: 2 }));
  const messages = (await collected(jobs.listEvents(job.id, { limit: 3 }))).map((event) => event.message);
  expect(messages.at(-1) === `Created fine-tuning job: ${job.id}`, "the familiar message");
  const kept = await typedPage("OpenAI.FineTuning.Jobs.FineTuningJobCheckpoint", jobs.checkpoints.list(job.id));
  expect(Object.values(kept[0].metrics).every((value) => value !== null), "metrics of a checkpoint");
  return ended;
}

async function walkChat(model) {
  const messages = [{ role: "user", content: "say 4" }];
  const told = await typedAs("OpenAI.Chat.ChatCompletion", client.chat.completions.create({ model, messages }));
  expect(["stop", "length"].includes(told.choices[0].finish_reason), "an answer");
}

async function walkGraders() {
  const { graders } = client.fineTuning.alpha;
  const grader = {
    type: "string_check", name: "same", operation: "eq", input: "{{sample.output_text}}", reference: "{{item.answer}}",
  };
  await typedAs("OpenAI.FineTuning.Alpha.GraderValidateResponse", graders.validate({ grader }));
  const run = graders.run({ grader, model_sample: "four", item: { answer: "four" } });
  expect((await typedAs("OpenAI.FineTuning.Alpha.GraderRunResponse", run)).reward === 1, "reward");
}

async function walkWebhook(id) {
  const event = await until("the webhook", async () => {
    const lines = fs.existsSync(notices) ? fs.readFileSync(notices, "utf8").split("\n").filter(Boolean) : [];
    const entry = lines.map((line) => JSON.parse(line)).find((each) => each.body.includes(id));
    return entry && client.webhooks.unwrap(entry.body, entry.headers);
  });
  expect(event.type === "fine_tuning.job.succeeded" && event.data.id === id, "the webhook");
  note("OpenAI.Webhooks.FineTuningJobSucceededWebhookEvent", event);
  console.log(`webhook ${event.type} ${event.data.id}`);
}

async function walkModels(model) {
  const { permissions } = client.fineTuning.checkpoints;
  const types = "OpenAI.FineTuning.Checkpoints";
  const made = await typedPage(`${types}.PermissionCreateResponse`, permissions.create(model, { project_ids: ["blue", "red"] }));
  const listed = await typedPage(`${types}.PermissionListResponse`, permissions.list(model, { project_id: "red" }));
  expect(listed.length === 1 && listed[0].id === made[1].id, "project_id");
  expect((await collected(permissions.list(model, { limit: 1 }))).length === 2, "page by page");
  await typedAs(`${types}.PermissionRetrieveResponse`, permissions.retrieve(model));
  const gone = permissions.delete(made[0].id, { fine_tuned_model_checkpoint: model });
  await typedAs(`${types}.PermissionDeleteResponse`, gone);
  await typedAs("OpenAI.Model", client.models.retrieve(model));
  const names = (await collected(client.models.list())).map((each) => each.id);
  expect(names.includes(model), "list");
  await typedAs("OpenAI.ModelDeleted", client.models.delete(model));
  const again = await client.models.delete(model).catch((error) => error);
  expect(again instanceof OpenAI.NotFoundError, "a deleted model is still there");
}

console.log(`openai-node ${VERSION} on Node ${process.version}`);
await walkFiles();
const job = await walkJobs(await walkUploads());
await walkChat(job.fine_tuned_model);
await walkGraders();
await walkWebhook(job.id);
await walkModels(job.fine_tuned_model);
const lines = answers.map(([type, json], at) => `export const answer${at}: ${type} = ${json};`);
fs.writeFileSync(
  typed,
  `import OpenAI from "openai";\ntype Job = OpenAI.FineTuning.FineTuningJob;\n${lines.join("\n")}\n`,
);
