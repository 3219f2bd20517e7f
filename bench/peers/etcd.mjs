// One etcd member: a put is answered after its log is synced. Followed with a watch.

import { Etcd3 } from "etcd3";
import { acknowledgements, folder, freePort, payload, propagation, start } from "./common.mjs";

const [port, peers] = [await freePort(), await freePort()];
const [own, others] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${peers}`];
const urls = ["--listen-client-urls", own, "--advertise-client-urls", own, "--listen-peer-urls", others];
const cluster = ["--initial-advertise-peer-urls", others, "--initial-cluster", `default=${others}`];
await start("etcd", ["--data-dir", `${folder}/data`, ...urls, ...cluster, "--log-level", "error"], port);
const [writer, reader] = [new Etcd3({ hosts: own }), new Etcd3({ hosts: own })];
let key = 0;
const write = (number) => writer.put(`k/${key++}`).value(payload(number)).exec();

await acknowledgements("etcd", write);
const { told, measure } = propagation("etcd");
const watcher = await reader.watch().prefix("k/").create();
watcher.on("put", (found) => told(JSON.parse(found.value.toString()).i));
await measure(write);
process.exit(0);
