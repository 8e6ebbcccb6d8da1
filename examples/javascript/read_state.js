// Reads the state of cortex from a running service, and says it twice a second. It connects again by itself, and asks
// for what it missed.
//
//     npm install && node read_state.js [ws://127.0.0.1:8000] [seconds]
"use strict";
const WebSocket = require("ws");

const url = process.argv[2] || "ws://127.0.0.1:8000";
const seconds = Number(process.argv[3] || 60);
const HARMLESS = new Set(["overload"]); // every other flag is bad, also one that is not known here
let last = null; // the newest message: its run_id and seq say where we are
let lost = 0;

function open() {
  const since = last === null ? "" : `&since_seq=${last.seq}`;
  const socket = new WebSocket(`${url}/v1/predictions?fields=probability&max_hz=2${since}`, { perMessageDeflate: false });
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    if (message.type === "dropped") lost += message.count;
    if (message.type !== "prediction") return; // of a later version
    if (last !== null && last.run_id !== message.run_id) console.log("the service has started again");
    last = message;
    const known = message.probability !== null && message.flags.every((flag) => HARMLESS.has(flag));
    const why = message.flags.join(", ") || "hidden"; // null is never 0: nothing is known
    console.log(`${message.sample_time.toFixed(2)} s: ${known ? message.probability.toFixed(2) : `not known (${why})`}`);
  });
  socket.on("error", (error) => console.error(error.message));
  socket.on("close", () => setTimeout(open, 250));
}

open();
setTimeout(() => {
  console.log(`${lost} lost`);
  process.exit(0);
}, seconds * 1000);
