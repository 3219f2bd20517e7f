// NATS JetStream on disk. It acknowledges before it syncs: that comes every two minutes. Followed with a push consumer.

import { writeFileSync } from "node:fs";
import { connect, consumerOpts, createInbox, StringCodec } from "nats";
import { acknowledgements, folder, freePort, payload, propagation, start } from "./common.mjs";

const port = await freePort();
writeFileSync(`${folder}/conf`, `host: 127.0.0.1\nport: ${port}\njetstream { store_dir: "${folder}/data" }\n`);
await start("nats-server", ["-c", `${folder}/conf`], port);
const [writer, reader] = [await connect({ port }), await connect({ port })];
const manager = await writer.jetstreamManager();
await manager.streams.add({ name: "S", subjects: ["s.>"], storage: "file", num_replicas: 1 });
const [stream, codec] = [writer.jetstream(), StringCodec()];
const write = (number) => stream.publish("s.a", codec.encode(payload(number)));

await acknowledgements("nats", write);
const { told, measure } = propagation("nats");
const options = consumerOpts().deliverTo(createInbox()).ackNone().deliverNew();
options.callback((_, message) => message && told(JSON.parse(codec.decode(message.data)).i));
await reader.jetstream().subscribe("s.>", options);
await reader.flush();
await measure(write);
process.exit(0);
