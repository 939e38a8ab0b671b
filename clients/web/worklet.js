/**
 * The audio thread's part: cuts the microphone into blocks of 16-bit samples and measures their level.
 *
 * The samples leave at the rate at which the device delivers them. Resampling is the server's: it does it
 * with a state that lasts as long as the session, so that neither a message boundary nor a dropped connection
 * leaves a seam, and every browser gets the same filter. A resampler here would have to run beside the page's
 * work and be restarted with it.
 *
 * Each message to the page: {pcm: ArrayBuffer of int16 in the machine's order, rms: 0..1, peak: 0..1}.
 */

const BLOCK_S = 0.1;

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.size = Math.round(sampleRate * BLOCK_S); // samples
    this.begin();
  }

  begin() {
    this.pcm = new Int16Array(this.size);
    this.filled = 0;
    this.energy = 0;
    this.peak = 0;
  }

  /** Runs for every 128 frames. Without a microphone there is no channel: silence then, so that time goes on. */
  process([channels], [output]) {
    const frames = channels[0]?.length ?? output[0].length;
    for (let i = 0; i < frames; i++) {
      let sample = 0;
      for (const channel of channels) sample += channel[i];
      this.take(channels.length > 1 ? sample / channels.length : sample);
    }
    return true; // the output stays silent; it is connected only so that every browser keeps calling
  }

  /** @param {number} sample -1..1 */
  take(sample) {
    const clipped = Math.max(-1, Math.min(1, sample)) || 0; // NaN becomes silence
    this.pcm[this.filled++] = Math.round(clipped * (clipped < 0 ? 32768 : 32767));
    this.energy += clipped * clipped;
    this.peak = Math.max(this.peak, Math.abs(clipped));
    if (this.filled < this.size) return;
    const { buffer } = this.pcm;
    this.port.postMessage({ pcm: buffer, rms: Math.sqrt(this.energy / this.size), peak: this.peak }, [buffer]);
    this.begin();
  }
}

registerProcessor("recorder", Recorder);
