// Pays for requests with an official x402 client, for the tests beside it.
//
//   PAYER_KEY=0x.. node payer.mjs v1|v2      v1: x402-fetch, v2: @x402/fetch
//
// Reads requests from standard input, one JSON object a line: {method, url, headers, body}; body is text or null. Writes what came of each,
// one line as well: {status, headers, body, sent}, where `sent` is the payment header of the last attempt, [name, value] or null; or {error},
// the client's own words. A 503 is met with the very same request again, payment and all: the clients themselves never do that.

import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { privateKeyToAccount } from "viem/accounts";

const PAYMENT_HEADERS = ["payment-signature", "x-payment"];
const PATIENCE_MS = 60_000;
// x402-fetch refuses more than a tenth of a USDC unless it is told otherwise.
const MOST_ATOMIC = 5_000_000n;

async function v1(key, innerFetch) {
  const { createSigner, wrapFetchWithPayment } = await import("x402-fetch");
  return wrapFetchWithPayment(innerFetch, await createSigner("base-sepolia", key), MOST_ATOMIC);
}

async function v2(key, innerFetch) {
  const { wrapFetchWithPayment, x402Client } = await import("@x402/fetch");
  const { registerExactEvmScheme } = await import("@x402/evm/exact/client");
  const client = new x402Client();
  registerExactEvmScheme(client, { signer: privateKeyToAccount(key) });
  return wrapFetchWithPayment(innerFetch, client);
}

/** fetch that sends a request again while it is answered 503, and tells of the payment it sent. */
function resendingFetch(tell) {
  return async (input, init) => {
    const request = new Request(input, init);
    const name = PAYMENT_HEADERS.find((one) => request.headers.has(one));
    tell(name === undefined ? null : [name, request.headers.get(name)]);
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const answer = await fetch(request.clone());
      const waitMs = 1000 * Math.min(Number(answer.headers.get("retry-after") ?? 1), 5);
      if (answer.status !== 503 || Date.now() + waitMs > deadline) return answer;
      await answer.arrayBuffer();
      await pause(waitMs);
    }
  };
}

let sent = null;
const paying = await { v1, v2 }[process.argv[2]](process.env.PAYER_KEY, resendingFetch((payment) => (sent = payment)));

async function answered({ method, url, headers, body }) {
  const answer = await paying(url, { method, headers, body: body ?? undefined });
  return { status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text(), sent };
}

for await (const line of createInterface({ input: process.stdin })) {
  const outcome = await answered(JSON.parse(line)).catch((error) => ({ error: String(error), sent }));
  process.stdout.write(JSON.stringify(outcome) + "\n");
}
