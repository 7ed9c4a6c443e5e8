// The authorization server: oidc-provider with everything switched on that the tests need.

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { exportJWK, generateKeyPair } from 'jose';
import { errors, Provider } from 'oidc-provider';

import { bodyOf } from './control.mjs';
import { JWT_BEARER, jwtBearer, TOKEN_EXCHANGE, tokenExchange } from './grants.mjs';

// Not exported by the package: the one way to make all DPoP nonces invalid at once, as a new secret would.
const inside = (path) => import(new URL(path, import.meta.resolve('oidc-provider')));
const { default: instance } = await inside('helpers/weak_cache.js');
const { default: ServerChallenge } = await inside('helpers/challenge.js');

const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';
const SCOPES = ['read', 'write', 'admin'];
const LIFETIME = 3600;

async function signingKey(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...await exportJWK(privateKey), alg, use: 'sig', kid: alg };
}

const keys = [await signingKey('RS256'), await signingKey('ES256')];

/** Where everything is kept: without a bound, unlike the package's own, which forgets after a thousand entries. */
class Memory {
  static entries = new Map();

  constructor(model) {
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload) {
    Memory.entries.set(this.key(id), payload);
  }

  async find(id) {
    return Memory.entries.get(this.key(id));
  }

  async findBy(name, value) {
    for (const [key, payload] of Memory.entries) {
      if (key.startsWith(`${this.model}:`) && payload[name] === value) return payload;
    }
    return undefined;
  }

  findByUid(uid) {
    return this.findBy('uid', uid);
  }

  findByUserCode(userCode) {
    return this.findBy('userCode', userCode);
  }

  async consume(id) {
    Memory.entries.get(this.key(id)).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    Memory.entries.delete(this.key(id));
  }

  async revokeByGrantId(grantId) {
    for (const [key, payload] of Memory.entries) {
      if (key.startsWith(`${this.model}:`) && payload.grantId === grantId) Memory.entries.delete(key);
    }
  }
}

/** The resource servers: by default tokens are for the API as a whole, and opaque; those for invoices are JWTs. */
function resourceServers(api) {
  const opaque = (audience) => ({ audience, scope: SCOPES.join(' '), accessTokenFormat: 'opaque' });
  const jwt = { audience: `${api}/invoices`, scope: SCOPES.join(' '), accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } };
  return new Map([
    [api, opaque(api)],
    [`${api}/`, opaque(api)],
    [`${api}/orders`, opaque(`${api}/orders`)],
    [`${api}/invoices`, jwt],
  ]);
}

const certificateOf = (ctx) => ctx.req.socket.getPeerX509Certificate?.();

const escape = (text) => String(text).replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);

function page(action, prompt) {
  const question = prompt === 'login' ? '<input type="text" name="login">' : '<p>May it?</p>';
  return `<!DOCTYPE html><title>${prompt}</title><form method="post" action="${escape(action)}">
    <input type="hidden" name="prompt" value="${prompt}">${question}
    <button name="answer" value="yes">Yes</button><button name="answer" value="no">No</button></form>`;
}

/** The pages on which a person logs in and agrees, or does not. */
function interactions(provider) {
  async function grantFor({ grantId, params, session, prompt: { details } }) {
    const grant = grantId
      ? await provider.Grant.find(grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    if (details.missingOIDCScope) grant.addOIDCScope(details.missingOIDCScope.join(' '));
    if (details.missingOIDCClaims) grant.addOIDCClaims(details.missingOIDCClaims);
    for (const [indicator, scopes] of Object.entries(details.missingResourceScopes ?? {})) {
      grant.addResourceScope(indicator, scopes.join(' '));
    }
    return grant.save();
  }

  return async (ctx, next) => {
    if (!ctx.path.startsWith('/interaction/')) return next();
    const details = await provider.interactionDetails(ctx.req, ctx.res);
    if (ctx.method === 'GET') {
      ctx.type = 'html';
      ctx.body = page(ctx.path, details.prompt.name);
      return undefined;
    }
    const form = new URLSearchParams(await bodyOf(ctx.req));
    let result;
    if (form.get('answer') !== 'yes') {
      result = { error: 'access_denied', error_description: 'the person said no' };
    } else if (details.prompt.name === 'login') {
      const acr = details.params.acr_values?.split(' ')[0];
      result = { login: { accountId: form.get('login'), ...(acr && { acr }) } };
    } else {
      result = { consent: { grantId: await grantFor(details) } };
    }
    ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result, { mergeWithLastSubmission: !result.error }));
    ctx.status = 303;
    return undefined;
  };
}

/** Counts the token requests, and mistreats them as the control channel says. */
function watch(ledger) {
  return async (ctx, next) => {
    ledger.count(ledger.counters.requests, ctx.path);
    if (ctx.path !== '/token' || ctx.method !== 'POST') return next();
    ledger.counters.token_requests += 1;
    ledger.underway += 1;
    ledger.counters.at_once = Math.max(ledger.counters.at_once, ledger.underway);
    try {
      if (ledger.delay) await sleep(ledger.delay);
      const answer = ledger.answers.shift();
      if (answer) {
        await bodyOf(ctx.req);
        Object.assign(ctx, { status: answer.status, body: answer.body });
        ctx.set(answer.headers);
        return undefined;
      }
      const loses = ledger.losing.count > 0;
      if (loses) {
        ledger.losing.count -= 1;
        ledger.counters.lost += 1;
      }
      if (!loses || ledger.losing.processed) await next();
      if (loses) {
        ctx.respond = false;
        ctx.req.socket.destroy();
      }
      return undefined;
    } finally {
      ledger.underway -= 1;
      const { grant_type: grantType, ...params } = ctx.oidc?.params ?? {};
      ledger.countToken({
        grant_type: grantType ?? 'unknown',
        params,
        scheme: ctx.get('authorization').split(' ')[0] || null,
        dpop: Boolean(ctx.get('dpop')),
        client_id: ctx.oidc?.client?.clientId ?? null,
        status: ctx.status,
        error: ctx.body?.error ?? null,
        detail: ctx.state.detail ?? ctx.body?.error_description ?? null,
      });
    }
  };
}

export function authorizationServer(place, settings, ledger) {
  const known = resourceServers(place.api);
  const lifetimes = new Map(settings.clients.map((client) => [client.client_id, client.token_lifetime]));
  const clients = settings.clients.map(({ token_lifetime: _, ...client }) => client);
  const lifetime = (_ctx, _token, client) => ledger.tokenLifetime ?? lifetimes.get(client.clientId) ?? LIFETIME;
  const needNonces = new Set(settings.nonce_clients);

  const provider = new Provider(place.issuer, {
    adapter: Memory,
    clients,
    jwks: { keys },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    scopes: ['openid', 'offline_access', ...SCOPES],
    acrValues: ['1', 'phr'],
    responseTypes: ['code'],
    clockTolerance: 0,
    clientAuthMethods: [
      'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt',
      'tls_client_auth', 'self_signed_tls_client_auth', 'none',
    ],
    enabledJWA: {
      clientAuthSigningAlgValues: ['HS256', 'HS384', 'HS512', 'RS256', 'PS256', 'ES256', 'ES384', 'EdDSA', 'Ed25519'],
      dPoPSigningAlgValues: ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA', 'Ed25519'],
    },
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: async () => false,
    clientBasedCORS: () => false,
    findAccount: async (_ctx, sub) => (sub === 'nobody' ? undefined : { accountId: sub, claims: async () => ({ sub }) }),
    interactions: { url: async (_ctx, interaction) => `/interaction/${interaction.uid}` },
    extraTokenClaims: async (ctx) => {
      const { AuthorizationCode, DeviceCode, RefreshToken } = ctx.oidc.entities;
      const source = AuthorizationCode ?? DeviceCode ?? RefreshToken;
      const found = { acr: source?.acr, auth_time: source?.authTime, act: ctx.state.act };
      return JSON.parse(JSON.stringify(found)); // without what is undefined
    },
    ttl: {
      AccessToken: lifetime,
      ClientCredentials: lifetime,
      AuthorizationCode: 60,
      DeviceCode: () => 600,
      Grant: () => 86400,
      IdToken: () => 3600,
      Interaction: () => 600,
      RefreshToken: () => 86400,
      Session: () => 3600,
    },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: async (_ctx, client) => client.clientAuthMethod !== 'none' },
      revocation: { enabled: true, allowedPolicy: async (_ctx, client, token) => token.clientId === client.clientId },
      pushedAuthorizationRequests: { enabled: true },
      deviceFlow: { enabled: true },
      dPoP: {
        enabled: true,
        nonceSecret: randomBytes(32),
        requireNonce: (ctx) => needNonces.has(ctx.oidc.client?.clientId),
      },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        tlsClientAuth: true,
        selfSignedTlsClientAuth: true,
        getCertificate: certificateOf,
        certificateAuthorized: (ctx) => ctx.req.socket.authorized === true,
        certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_dns'
          && (certificateOf(ctx).subjectAltName ?? '').split(', ').includes(`DNS:${expected}`),
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: async (_ctx, _client, oneOf) => oneOf?.[0] ?? place.api,
        useGrantedResource: async () => true,
        getResourceServerInfo: async (_ctx, indicator) => {
          if (!known.has(indicator)) throw new errors.InvalidTarget();
          return known.get(indicator);
        },
      },
    },
    discovery: {
      mtls_endpoint_aliases: Object.fromEntries(Object.entries({
        token_endpoint: '/token',
        revocation_endpoint: '/token/revocation',
        introspection_endpoint: '/token/introspection',
        device_authorization_endpoint: '/device/auth',
        pushed_authorization_request_endpoint: '/request',
      }).map(([name, path]) => [name, `${place.mtls}${path}`])),
    },
  });

  provider.registerGrantType(
    TOKEN_EXCHANGE,
    tokenExchange(provider, place, keys),
    ['audience', 'resource', 'scope', 'requested_token_type', 'subject_token', 'subject_token_type', 'actor_token',
      'actor_token_type'],
    ['audience', 'resource'],
  );
  provider.registerGrantType(
    JWT_BEARER,
    jwtBearer(provider, place, settings.assertion_issuers),
    ['assertion', 'scope', 'resource', 'audience'],
    ['audience', 'resource'],
  );

  provider.use(watch(ledger));
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.path.startsWith('/.well-known/')) ctx.body = { ...ctx.body, ...ledger.metadata };
    // RFC 8628 §3.2: without it a client waits 5 s between two polls.
    if (ctx.path === '/device/auth' && ctx.body?.device_code) ctx.body = { ...ctx.body, interval: 1 };
  });
  provider.use(interactions(provider));

  provider.on('grant.success', (ctx) => {
    ledger.issued(ctx.body.access_token);
  });
  provider.on('grant.error', (ctx, error) => {
    ctx.state.detail = error.error_detail ?? error.error_description;
  });
  provider.on('grant.revoked', (ctx) => {
    if (ctx.oidc.route === 'token') ledger.counters.revoked_families += 1;
  });
  provider.on('server_error', (_ctx, error) => {
    console.error(error); // the fixture shows it
  });

  return {
    provider,
    keys,
    rotateNonces: () => {
      instance(provider).DPoPNonces = new ServerChallenge(randomBytes(32), 'DPoP');
    },
    DEVICE_CODE,
  };
}
