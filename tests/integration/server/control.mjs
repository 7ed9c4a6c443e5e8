// The control channel: plain HTTP, JSON in and out; the tests' `Rig` is its only client.

export async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

export function control(authorization, resource, ledger) {
  const actions = {
    counters: () => ledger.counters,
    log: () => ledger.log,
    reset: () => ledger.reset(),
    expire: () => ledger.expire(),
    metadata: (changes) => { ledger.metadata = changes; },
    'resource-metadata': (changes) => { ledger.resourceMetadata = changes; },
    gather: ({ number }) => ledger.gather(number),
    nonce: () => resource.rotateNonce(),
    'issuer-nonce': () => authorization.rotateNonces(),
    'lose-next': ({ count = 1, processed = true }) => { ledger.losing = { count, processed }; },
    'answer-next': ({ count = 1, status, body = {}, headers = {} }) => {
      for (let i = 0; i < count; i += 1) ledger.answers.push({ status, body, headers });
    },
    delay: ({ seconds }) => { ledger.delay = seconds * 1000; },
    lifetime: ({ seconds }) => { ledger.tokenLifetime = seconds ?? undefined; },
  };
  return async (request, response) => {
    const action = actions[new URL(request.url, 'http://control').pathname.replace('/control/', '')];
    const text = await bodyOf(request);
    response.setHeader('content-type', 'application/json');
    response.statusCode = action ? 200 : 404;
    response.end(JSON.stringify(action?.(text ? JSON.parse(text) : {}) ?? {}));
  };
}
