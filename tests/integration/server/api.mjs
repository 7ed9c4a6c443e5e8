// The API: what a protected resource owes to its callers (RFC 6750, 8705 §3, 9449 §7 and §9, 9470, 9728).

import { createHash, randomBytes } from 'node:crypto';

import { calculateJwkThumbprint, createLocalJWKSet, EmbeddedJWK, jwtVerify } from 'jose';

import { bodyOf } from './control.mjs';

const ALGORITHMS = ['ES256', 'ES384', 'RS256', 'PS256', 'EdDSA', 'Ed25519'];
const PROOF_LIFETIME = 60; // seconds
const NONCE_SERVES = 20; // requests; then there is a new one, and the one before is good until the next
const WELL_KNOWN = '/.well-known/oauth-protected-resource';
const AUDIENCES = ['/orders', '/invoices']; // paths that want a token of their own

const hash = (data) => createHash('sha256').update(data).digest('base64url');

class Refusal extends Error {
  constructor(status, parameters, scheme) {
    super(parameters.error_description ?? parameters.error ?? 'no token');
    Object.assign(this, { status, parameters, scheme });
  }
}

const invalid = (why, scheme) => new Refusal(401, { error: 'invalid_token', error_description: why }, scheme);

export function protectedResource(place, authorization, ledger) {
  const { provider } = authorization;
  const jwks = createLocalJWKSet({ keys: authorization.keys.map(({ kty, n, e, crv, x, y, alg, use, kid }) => (
    { kty, n, e, crv, x, y, alg, use, kid })) });
  const proofs = new Set();
  const nonce = { now: randomBytes(16).toString('hex'), before: undefined, served: 0 };

  function nextNonce(before) {
    Object.assign(nonce, { now: randomBytes(16).toString('hex'), before, served: 0 });
  }

  /** What a token says, whatever its kind. */
  async function read(value, scheme) {
    if (ledger.refuses(value)) throw invalid('the token has expired', scheme);
    if (value.split('.').length === 3) {
      try {
        const { payload } = await jwtVerify(value, jwks, { issuer: provider.issuer, typ: 'at+jwt' });
        return { ...payload, jkt: payload.cnf?.jkt, x5t: payload.cnf?.['x5t#S256'] };
      } catch {
        throw invalid('the token is not valid', scheme);
      }
    }
    const token = await provider.AccessToken.find(value) ?? await provider.ClientCredentials.find(value);
    if (!token) throw invalid('the token is not known, or has expired', scheme);
    return {
      ...token.extra,
      sub: token.accountId ?? token.clientId,
      client_id: token.clientId,
      scope: token.scope,
      aud: token.aud,
      jkt: token.jkt,
      x5t: token['x5t#S256'],
    };
  }

  async function prove(request, url, value, token) {
    const proof = request.headers.dpop;
    const refuse = (error, why) => new Refusal(401, { error, error_description: why }, 'DPoP');
    if (!proof || proof.includes(',')) throw refuse('invalid_dpop_proof', 'one DPoP proof is needed');
    let payload;
    let jwk;
    try {
      const verified = await jwtVerify(proof, EmbeddedJWK, { algorithms: ALGORITHMS, typ: 'dpop+jwt' });
      ({ payload } = verified);
      ({ jwk } = verified.protectedHeader);
    } catch (error) {
      throw refuse('invalid_dpop_proof', error.message.replaceAll('"', "'"));
    }
    const wrong = [
      ['htm', payload.htm !== request.method],
      ['htu', payload.htu !== `${url.origin}${url.pathname}`],
      ['ath', payload.ath !== hash(value)],
      ['jti', typeof payload.jti !== 'string' || payload.jti.length < 16],
      ['iat', !(Math.abs(Date.now() / 1000 - payload.iat) < PROOF_LIFETIME)],
      ['key', await calculateJwkThumbprint(jwk) !== token.jkt],
    ].filter(([, is]) => is).map(([name]) => name);
    if (wrong.length) throw refuse('invalid_dpop_proof', `wrong: ${wrong.join(' ')}`);
    if (payload.nonce === undefined || ![nonce.now, nonce.before].includes(payload.nonce)) {
      throw refuse('use_dpop_nonce', 'a nonce of this server is needed');
    }
    if (proofs.has(payload.jti)) throw refuse('invalid_dpop_proof', 'the proof was used before');
    proofs.add(payload.jti);
    nonce.served += 1;
    if (nonce.served >= NONCE_SERVES) nextNonce(nonce.now);
  }

  async function authorize(request, url) {
    const [, scheme, value] = /^(bearer|dpop) +([\w.~+/=-]+)$/i.exec(request.headers.authorization ?? '') ?? [];
    if (!value) throw new Refusal(401, {});
    const isDPoP = scheme.toLowerCase() === 'dpop';
    const token = await read(value, isDPoP ? 'DPoP' : 'Bearer');
    if (token.jkt && !isDPoP) throw invalid('the token is bound to a key', 'DPoP');
    if (!token.jkt && isDPoP) throw invalid('the token is not bound to a key', 'DPoP');
    if (token.jkt) await prove(request, url, value, token);
    if (token.x5t) {
      const certificate = request.socket.getPeerX509Certificate?.();
      if (!certificate || hash(certificate.raw) !== token.x5t) {
        throw invalid('the token is bound to another certificate', 'Bearer');
      }
    }
    const own = AUDIENCES.find((path) => url.pathname === path || url.pathname.startsWith(`${path}/`));
    if (own && token.aud !== place.api + own) throw invalid('the token is for another audience', scheme);
    return { ...token, scheme };
  }

  function demand(path, token) {
    const scheme = token.jkt ? 'DPoP' : 'Bearer';
    if (path === '/step-up' && !(token.scope ?? '').split(' ').includes('admin')) {
      throw new Refusal(403, { error: 'insufficient_scope', scope: 'admin' }, scheme);
    }
    if (path === '/strong' && token.acr !== 'phr') { // RFC 9470
      throw new Refusal(401, { error: 'insufficient_user_authentication', acr_values: 'phr', max_age: '300' }, scheme);
    }
    if (path === '/claims') { // a claims challenge, as Microsoft's services send it; nothing satisfies it here
      const claims = Buffer.from('{"access_token":{"acrs":{"essential":true,"value":"c1"}}}').toString('base64');
      throw new Refusal(401, { error: 'insufficient_claims', claims }, scheme);
    }
    if (path === '/never') throw invalid('nobody gets this', scheme);
  }

  function challenge(refusal, url) {
    const own = AUDIENCES.find((path) => url.pathname.startsWith(path)) ?? '';
    const common = { resource_metadata: `${url.origin}${WELL_KNOWN}${own}` };
    const write = (scheme, parameters) => `${scheme} ${Object.entries(parameters).map(([name, value]) => (
      `${name}="${value}"`)).join(', ')}`;
    const dpop = { algs: ALGORITHMS.join(' ') };
    if (!refusal.scheme) return [write('Bearer', common), write('DPoP', { ...dpop, ...common })];
    const parameters = { ...refusal.parameters, ...common };
    return write(refusal.scheme, refusal.scheme === 'DPoP' ? { ...parameters, ...dpop } : parameters);
  }

  async function answer(request, response, body) {
    const url = new URL(request.url, `https://${request.headers.host}`);
    if (url.pathname.startsWith(WELL_KNOWN)) {
      return {
        resource: url.origin + url.pathname.slice(WELL_KNOWN.length),
        authorization_servers: [provider.issuer],
        scopes_supported: ['read', 'write', 'admin'],
        bearer_methods_supported: ['header'],
        dpop_signing_alg_values_supported: ALGORITHMS,
        ...ledger.resourceMetadata,
      };
    }
    ledger.counters.api_requests += 1;
    await ledger.join();
    try {
      const token = await authorize(request, url);
      demand(url.pathname, token);
      return { method: request.method, path: url.pathname, body, token };
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal;
      response.statusCode = refusal.status;
      response.setHeader('www-authenticate', challenge(refusal, url));
      return refusal.parameters;
    } finally {
      if (request.headers.dpop) response.setHeader('dpop-nonce', nonce.now);
      ledger.count(ledger.counters.api, response.statusCode);
    }
  }

  return {
    rotateNonce: () => nextNonce(undefined),
    handle: async (request, response) => {
      try {
        const found = await answer(request, response, await bodyOf(request));
        response.setHeader('content-type', 'application/json');
        response.end(JSON.stringify(found));
      } catch (error) {
        console.error(error);
        response.statusCode = 500;
        response.end();
      }
    },
  };
}
