// Two grants that oidc-provider leaves to its users: token exchange (RFC 8693) and JWT bearer (RFC 7523 §2.1).

import { createLocalJWKSet, decodeJwt, jwtVerify } from 'jose';
import { errors } from 'oidc-provider';

// The checks that the built-in grants make are not exported by the package; these are the very same.
const inside = (path) => import(new URL(path, import.meta.resolve('oidc-provider')));
const { applyDpopBinding } = await inside('helpers/grant_common.js');
const helpers = await inside('helpers/grants.js');

const { InvalidGrant, InvalidRequest, InvalidScope, InvalidTarget } = errors;

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
export const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';

const TYPE = 'urn:ietf:params:oauth:token-type:';
const ACCESS_TOKENS = [`${TYPE}access_token`, `${TYPE}jwt`];

function required(ctx, ...names) {
  const missing = names.find((name) => !ctx.oidc.params[name]);
  if (missing) throw new InvalidRequest(`missing required parameter: ${missing}`);
}

/** An access token for `subject`, bound to key or certificate like any other. */
async function issue(provider, place, ctx, subject, allowed) {
  const dPoP = await helpers.validateDpop(provider, ctx);
  helpers.checkDpopRequired(provider, ctx, dPoP);
  const certificate = helpers.checkMtlsCert(provider, ctx);

  const { params, client } = ctx.oidc;
  const audiences = [params.audience ?? []].flat();
  if (audiences.length) {
    // An audience is the name of a service (RFC 8693 §2.1): here "orders" and "invoices".
    params.resource = [...[params.resource ?? []].flat(), ...audiences.map((name) => `${place.api}/${name}`)];
  }
  const servers = await helpers.resolveRequestedResources(provider, ctx);
  if (servers.length !== 1) throw new InvalidTarget('one target at a time');
  const wanted = [...ctx.oidc.requestParamScopes];
  const beyond = allowed && wanted.find((scope) => !allowed.has(scope));
  if (beyond) throw new InvalidScope('more than the token that it is exchanged for', beyond);

  const scopes = wanted.length ? wanted : [...allowed ?? []];
  const token = new provider.AccessToken({
    accountId: subject,
    client,
    gty: params.grant_type,
    scope: scopes.filter((scope) => servers[0].scopes.has(scope)).join(' ') || undefined,
  });
  token.resourceServer = servers[0];
  if (certificate) token.setThumbprint('x5t', certificate);
  await applyDpopBinding(provider, ctx, dPoP, token);
  ctx.oidc.entity('AccessToken', token);
  const accessToken = await token.save();
  return {
    access_token: accessToken,
    token_type: token.tokenType,
    expires_in: token.expiration,
    ...(token.scope && { scope: token.scope }),
  };
}

export function tokenExchange(provider, place, keys) {
  const jwks = createLocalJWKSet({ keys: keys.map(({ kty, n, e, crv, x, y, alg, use, kid }) => (
    { kty, n, e, crv, x, y, alg, use, kid })) });

  /** Who a token of ours speaks for, and with which scope. */
  async function read(name, value, type) {
    if (!ACCESS_TOKENS.includes(type) && type !== `${TYPE}id_token`) {
      throw new InvalidRequest(`${name}_type is not supported`);
    }
    const stored = await provider.AccessToken.find(value) ?? await provider.ClientCredentials.find(value);
    if (stored && type === `${TYPE}access_token`) {
      return { sub: stored.accountId ?? stored.clientId, scopes: stored.scopes };
    }
    try {
      const { payload } = await jwtVerify(value, jwks, {
        issuer: provider.issuer,
        ...(type === `${TYPE}access_token` && { typ: 'at+jwt' }),
      });
      return { sub: payload.sub, scopes: payload.scope === undefined ? undefined : new Set(payload.scope.split(' ')) };
    } catch (cause) {
      throw new InvalidRequest(`${name} is invalid or has expired`, undefined, { cause }); // RFC 8693 §2.2.2
    }
  }

  return async (ctx) => {
    required(ctx, 'subject_token', 'subject_token_type');
    const { params, client } = ctx.oidc;
    if (client.clientAuthMethod === 'none') throw new InvalidRequest('a public client exchanges nothing');
    if (params.actor_token) required(ctx, 'actor_token_type');
    else if (params.actor_token_type) throw new InvalidRequest('actor_token_type without an actor_token');
    const wanted = params.requested_token_type ?? `${TYPE}access_token`;
    if (!ACCESS_TOKENS.includes(wanted)) throw new InvalidRequest('requested_token_type is not supported');

    const subject = await read('subject_token', params.subject_token, params.subject_token_type);
    if (params.actor_token) {
      const actor = await read('actor_token', params.actor_token, params.actor_token_type);
      ctx.state.act = { sub: actor.sub };
    }
    ctx.body = {
      ...await issue(provider, place, ctx, subject.sub, subject.scopes),
      issued_token_type: wanted,
    };
  };
}

export function jwtBearer(provider, place, issuers) {
  return async (ctx) => {
    required(ctx, 'assertion');
    const { assertion } = ctx.oidc.params;
    let payload;
    try {
      const { iss } = decodeJwt(assertion);
      if (!Object.hasOwn(issuers, iss)) throw new Error('the issuer of the assertion is not known');
      ({ payload } = await jwtVerify(assertion, createLocalJWKSet(issuers[iss]), {
        issuer: iss,
        audience: [provider.issuer, ctx.oidc.urlFor('token')],
        requiredClaims: ['sub', 'aud', 'exp'],
      }));
    } catch (cause) {
      throw new InvalidGrant({ cause });
    }
    if (payload.exp > Date.now() / 1000 + 3600) throw new InvalidGrant('the assertion lives longer than an hour');
    if (payload.jti && !await provider.ReplayDetection.unique(payload.iss, payload.jti, payload.exp)) {
      throw new InvalidGrant('the assertion was used before');
    }
    ctx.body = await issue(provider, place, ctx, payload.sub);
  };
}
