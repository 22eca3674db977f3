// The tables' library, unpacked from the page itself: no address is asked. Its scripts wait for the promise of this name.
(() => {
  const unpack = async (packed) => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  window["@NAME@"] = (async () => {
    const style = document.createElement("style");
    style.textContent = await unpack("@CSS@");
    document.head.prepend(style); // before ours, so that ours decides
    const url = URL.createObjectURL(new Blob([await unpack("@JS@")], { type: "text/javascript" }));
    try {
      return await import(url);
    } finally {
      URL.revokeObjectURL(url);
    }
  })();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark", dark.matches);
  dark.addEventListener("change", follow);
  follow();
})();
