// What has happened, and what is to happen next: shared by the servers of this program.

const fresh = () => ({
  token_requests: 0,
  at_once: 0, // the most token requests that were under way at the same time
  grants: {}, // grant type -> status -> number
  errors: {}, // "invalid_grant: refresh token already used" -> number
  reused: 0, // consumed refresh tokens that were presented
  revoked_families: 0, // sessions that ended because of that
  lost: 0, // answers that were not sent
  api_requests: 0,
  api: {}, // status -> number
  requests: {}, // path at the authorization server -> number
});

export class Ledger {
  generation = 0;

  #generations = new Map(); // token -> the generation in which it was issued

  constructor() {
    this.reset();
  }

  reset() {
    this.counters = fresh();
    this.log = []; // the token requests, newest last
    this.underway = 0;
    this.losing = { count: 0, processed: true };
    this.answers = []; // [{status, body, headers}]: the next token requests get these
    this.delay = 0; // ms that each token request takes longer
    this.tokenLifetime = undefined; // s, for all clients
    this.metadata = {}; // what both metadata documents of the authorization server say instead
    this.resourceMetadata = {}; // and those of the API
    this.crowd?.release();
    this.crowd = undefined;
  }

  count(where, key, number = 1) {
    where[key] = (where[key] ?? 0) + number;
  }

  countToken(entry) {
    const { grants, errors } = this.counters;
    grants[entry.grant_type] ??= {};
    this.count(grants[entry.grant_type], entry.status);
    if (entry.error) this.count(errors, entry.detail ? `${entry.error}: ${entry.detail}` : entry.error);
    if (entry.detail === 'refresh token already used') this.counters.reused += 1;
    this.log.push(entry);
    if (this.log.length > 1000) this.log.shift();
  }

  /** The next `number` requests to the API wait for each other. */
  gather(number) {
    const crowd = { missing: number };
    crowd.complete = new Promise((resolve) => { crowd.release = resolve; });
    this.crowd = crowd;
  }

  async join() {
    const { crowd } = this;
    if (!crowd?.missing) return;
    crowd.missing -= 1;
    if (!crowd.missing) crowd.release();
    await crowd.complete;
  }

  issued(token) {
    this.#generations.set(token, this.generation);
  }

  /** All tokens that were issued so far are refused from now on. */
  expire() {
    this.generation += 1;
  }

  refuses(token) {
    return (this.#generations.get(token) ?? 0) < this.generation;
  }
}
