// Plays a clip: a film strip of 8 by 8 frames, one image, drawn frame by frame.

const SIDE = 8;
export const FRAMES = SIDE * SIDE;
const FRAME_MS = 80;
const REST = 12; // frames that the last one stays

export class Strip {
  constructor(canvas, onFrame = () => {}) {
    this.canvas = canvas;
    this.onFrame = onFrame;
    this.image = null;
    this.frame = 0;
    this.playing = true;
    setInterval(() => this.tick(), FRAME_MS);
  }

  load(url) {
    const image = new Image();
    this.image = null;
    this.canvas.hidden = true;
    image.addEventListener("load", () => {
      this.image = image;
      this.canvas.width = image.naturalWidth / SIDE;
      this.canvas.height = image.naturalHeight / SIDE;
      this.canvas.hidden = false;
      this.show(0);
      this.playing = true;
    });
    image.src = url;
  }

  show(frame) {
    this.frame = frame;
    const shown = Math.min(FRAMES - 1, frame);
    this.onFrame(shown);
    if (!this.image) return;
    const { width, height } = this.canvas;
    this.canvas.getContext("2d").drawImage(
      this.image,
      (shown % SIDE) * width, Math.floor(shown / SIDE) * height, width, height,
      0, 0, width, height,
    );
  }

  tick() {
    if (this.image && this.playing && this.canvas.offsetParent) {
      this.show((this.frame + 1) % (FRAMES + REST));
    }
  }
}
