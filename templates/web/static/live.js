// Replaces the live part of the page every two seconds; says so when the server doesn't answer.
const live = document.getElementById("live");
async function refresh() {
  try {
    const answer = await fetch(live.dataset.source, { headers: { Accept: "text/html" } });
    if (!answer.ok) throw new Error(answer.statusText);
    live.innerHTML = await answer.text();
    document.body.classList.remove("stale");
  } catch {
    document.body.classList.add("stale");
  }
  setTimeout(refresh, 2000);
}
if (live) setTimeout(refresh, 2000);
