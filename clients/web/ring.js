/**
 * The last minutes of the microphone, in memory, addressed by position in the session.
 *
 * A position counts samples at the capture's own rate since the session's first one, as `next_sample` does.
 * When the server asks for audio again after a lost connection, it comes out of here.
 */
export class Ring {
  /**
   * @param {number} capacity samples kept; older ones are overwritten
   * @param {number} [start] position of the first sample that will be pushed
   */
  constructor(capacity, start = 0) {
    this.buffer = new Int16Array(capacity);
    this.end = start; // position after the newest sample
    this.length = 0; // samples held, at most `capacity`
  }

  /** Position of the oldest sample still held. */
  get start() {
    return this.end - this.length;
  }

  /** @param {Int16Array} samples mono, taken in at `end` */
  push(samples) {
    const capacity = this.buffer.length;
    const kept = samples.length > capacity ? samples.subarray(samples.length - capacity) : samples;
    const at = (this.end + samples.length - kept.length) % capacity;
    const head = Math.min(kept.length, capacity - at);
    this.buffer.set(kept.subarray(0, head), at);
    this.buffer.set(kept.subarray(head), 0);
    this.end += samples.length;
    this.length = Math.min(capacity, this.length + samples.length);
  }

  /**
   * A copy of what lies between two positions.
   * @param {number} from position, not before `start`
   * @param {number} to position, not after `end`
   * @returns {Int16Array}
   */
  read(from, to) {
    if (from < this.start || to > this.end || from > to) {
      throw new RangeError(`samples ${from} to ${to} are not held; the ring has ${this.start} to ${this.end}`);
    }
    const capacity = this.buffer.length;
    const out = new Int16Array(to - from);
    const at = from % capacity;
    const head = Math.min(out.length, capacity - at);
    out.set(this.buffer.subarray(at, at + head), 0);
    out.set(this.buffer.subarray(0, out.length - head), head);
    return out;
  }

  /** Forgets everything; the next sample pushed lies at `position`. */
  moveTo(position) {
    this.end = position;
    this.length = 0;
  }
}
