// Redis streams with `appendonly yes` and `appendfsync always`: XADD is answered after the sync. Read with XREAD BLOCK.

import { createClient } from "redis";
import { acknowledgements, folder, freePort, payload, propagation, start } from "./common.mjs";

const port = await freePort();
const settings = ["--bind", "127.0.0.1", "--dir", folder, "--appendonly", "yes", "--appendfsync", "always", "--save", ""];
await start("redis-server", ["--port", `${port}`, ...settings], port);
const connect = () => createClient({ socket: { host: "127.0.0.1", port } }).connect();
const [writer, reader] = [await connect(), await connect()];
const write = (number) => writer.xAdd("stream", "*", { p: payload(number) });

await acknowledgements("redis", write);
const { told, measure } = propagation("redis");
const follow = async () => {
  let last = "$";
  for (;;) {
    const read = await reader.xRead({ key: "stream", id: last }, { BLOCK: 1000, COUNT: 64 });
    for (const message of read?.[0].messages ?? []) {
      last = message.id;
      told(JSON.parse(message.message.p).i);
    }
  }
};
follow().catch(() => {});
// The first read has to block before anything is written that it is to see.
while ((await writer.info("clients")).includes("blocked_clients:0")) {}
await measure(write);
process.exit(0);
