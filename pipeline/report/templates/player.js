"use strict";
(() => {
  const videos = JSON.parse(document.getElementById("videos").textContent);
  for (const card of document.querySelectorAll(".card")) {
    const clips = [...card.querySelectorAll("video")].filter((clip) => videos[clip.dataset.clip]);
    const button = card.querySelector(".play");
    if (!clips.length) { button.remove(); continue; }
    const toggle = () => {
      const playing = button.textContent === "Pause";
      for (const clip of clips) {
        if (!clip.src) clip.src = videos[clip.dataset.clip];
        if (playing) clip.pause();
        else clip.play().catch((error) => { if (error.name !== "AbortError") button.textContent = "Cannot play: " + error.name; });
      }
      button.textContent = playing ? "Play" : "Pause";
    };
    button.addEventListener("click", toggle);
    for (const clip of clips) clip.addEventListener("click", toggle);
  }
})();
