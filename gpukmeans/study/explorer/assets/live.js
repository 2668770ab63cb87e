// What a page does that `gpukmeans explore` serves.

function startLive() {}
