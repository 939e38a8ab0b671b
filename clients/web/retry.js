/** When to try again after a connection was lost. */

const FIRST_MS = 250;
const LONGEST_MS = 5_000;

/**
 * How long to wait before a try: doubling, bounded, and spread so that a room of viewers does not come back
 * in the same instant.
 * @param {number} attempt 0 for the first try after the loss
 * @param {() => number} [random] 0..1
 * @returns {number} milliseconds
 */
export function retryDelay(attempt, random = Math.random) {
  const whole = Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
  return whole / 2 + (whole / 2) * random();
}
