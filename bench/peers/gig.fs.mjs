// GiG.fs 0.2.5, the predecessor: a table and a store in Node, on plain HTTP. The store answers a push once it has read the whole
// log, written it anew with the operation at its end, and renamed it into place. It never syncs: an acknowledged operation is in
// the page cache. Its own client reports a push before it is sent, so acknowledgements and `prop` are measured on the store's
// routes, which is faster too; `get_cold` is its client's. In `gig.fs` all operations of a load go to one log, as with gigfs; in
// `gig.fs_paths` each goes to a log of its own, where there is nothing to write anew.

import { once } from "node:events";
import http from "node:http";
import { createRequire } from "node:module";
import { promisify } from "node:util";
import { acknowledgements, coldReads, folder, freePort, payload, propagation, readLog, start } from "./common.mjs";

const require = createRequire(import.meta.url);
const { gig } = require("gig.fs");
const { hash } = require("gig.fs/lib/common.js");
const { storage } = require("gig.fs/lib/storage.js");

const [user, master, channel, type] = [1, "master", "bench", "register"];
// Its servers close what was idle for 5 seconds, so a connection is let go before, and not written to while it is being closed.
const agent = new http.Agent({ keepAlive: true, maxFreeSockets: 1024, timeout: 2_000 });
const table = await server("table");
const store = await server("store");
const session = await mountAndLogIn();
const { [channel]: stores } = await call("GET", `${table.user}table?session_token=${session}`);
const [{ store_token: token }] = Object.values(stores);

// Starts the table or the store.
async function server(name) {
  const [port, key, data] = [await freePort(), `${name}-key`, `${folder}/${name}`];
  const [url, upper] = [`http://127.0.0.1:${port}/`, name.toUpperCase()];
  const env = { GIGFS_DATA: data, [`GIGFS_${upper}_PORT`]: port, [`GIGFS_${upper}_KEY`]: key, [`GIGFS_${upper}_URL`]: url };
  await start(process.execPath, ["--import", loopback(), require.resolve(`gig.fs/${name}/${name}.js`)], port, env);
  return { data, admin: `${url}admin/user/${user}`, user: `${url}user/${user}/`, auth: `admin:${key}` };
}

// Returns a module that has servers listen on loopback, the one thing changed: GiG.fs listens on every address, without a setting.
function loopback() {
  const code = `import { Server } from "node:net";
    const listen = Server.prototype.listen;
    Server.prototype.listen = function (port) { return listen.call(this, port, "127.0.0.1"); };`;
  return `data:text/javascript,${encodeURIComponent(code)}`;
}

// Makes the user at both servers, mounts the store, and logs in.
async function mountAndLogIn() {
  await call("PUT", `${table.admin}/master/${master}`, { auth: table.auth });
  await call("PUT", store.admin, { auth: store.auth });
  const { code } = await call("GET", `${store.admin}/code`, { auth: store.auth });
  await call("POST", `${table.user}table/${channel}/store?master=${master}`, { body: { store_url: store.user, code } });
  const login = await call("GET", `${table.user}session/new?master=${master}&timeout=${60 * 60 * 1000}`);
  return login.session_token;
}

async function call(method, url, { auth, body } = {}) {
  const { text } = await exchange(method, url, auth, body && JSON.stringify(body));
  return JSON.parse(text);
}

// Sends a request, and returns the answer as text, with its length.
async function exchange(method, url, auth, body) {
  const headers = body ? { "content-type": "application/json", "content-length": Buffer.byteLength(body) } : {};
  const request = http.request(url, { method, agent, auth, headers });
  request.end(body);
  const [response] = await once(request, "response");
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  if (response.statusCode !== 200) throw new Error(`${method} ${url}: ${response.statusCode} ${bytes}`);
  return { text: bytes.toString(), bytes: bytes.length };
}

// Returns an operation as its client makes it, with its identity.
function operation(number, date) {
  const op = payload(number);
  return { date, sha: hash([date, op]), payload: JSON.parse(op) };
}

function log(path) {
  return `${store.user}oplog?type=${type}&path=${path}&store_token=${token}`;
}

async function push(number, path) {
  await call("POST", log(path), { body: operation(number, Date.now()) });
}

let paths = 0;
const pushToNew = (number) => push(number, `/paths/${paths++}`);

await acknowledgements("gig.fs", (number, inFlight) => push(number, `/ack-${inFlight}`));
await acknowledgements("gig.fs_paths", pushToNew);

const { told, measure } = propagation("gig.fs");
let registered = "";
const follow = async () => {
  for (;;) {
    const { reg_id, stream } = await call("GET", `${store.user}oplog/stream?store_token=${token}${registered}`);
    registered = `&reg_id=${reg_id}`;
    for (const { op } of stream) told(op.payload.i);
  }
};
follow();
// The first listening has to be answered before anything is written that is to be told.
while (!registered) await pushToNew(0);
await measure(pushToNew);

// Pushing so many to one log takes minutes, so the log is written as the store would write it, by the store's own code.
const ops = Array.from({ length: readLog }, (_, number) => operation(number, Date.now()));
const files = storage({ data_path: store.data });
await promisify(files.put)(`${files.prefix(user)}root/${type}/cold`, ops);
await coldReads("gig.fs", async () => {
  const client = gig({ remote_table: { table_url: table.user, session_token: session } });
  client.register(type, (oplog) => oplog.at(-1)?.payload ?? null);
  await promisify(client.init)();
  await promisify(client.get)(channel, type, "/nothing");
  const started = performance.now();
  const took = await new Promise((done, failed) => {
    client.get(channel, type, "/cold", (error) => {
      const elapsed = performance.now() - started;
      // It would prune the log now, for which nobody waits.
      client.kill(() => (error ? failed(error) : done(elapsed)));
    });
  });
  const { text, bytes } = await exchange("GET", log("/cold"));
  if (JSON.parse(text).length !== readLog) throw new Error(`not ${readLog} operations were read`);
  return { took, bytes };
});
process.exit(0);
