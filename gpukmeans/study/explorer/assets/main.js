// Put the page together: the map first, the rest as soon as it is drawn.

/** Show a study in place of what is shown. */
async function show(study) {
  const main = document.getElementById("main");
  const pictures = new Pictures(study);
  await study.loadPoints();
  headline(study);
  let clusters = null;
  let listed = null;
  const openCluster = (c, scroll) => clusters?.open(c, scroll);
  const { made, map, tell, showLegend } = mapHolder(study, pictures, openCluster, main);
  page.firstDraw ??= performance.now();
  Object.assign(page, { study, map, pictures, tell });
  await seen();
  page.firstSeen ??= performance.now();

  await study.loadRest();
  map.pictures = pictures;
  map.request();
  const changed = () => {
    headline(study);
    clusters.show();
    map.repaint();
    showLegend();
    listed.replaceWith(listed = confusionSection(study, pictures) ?? element("div"));
  };
  clusters = new Clusters(study, pictures, changed);
  listed = confusionSection(study, pictures) ?? element("div");
  const sections = [clusters.made, listed, silhouetteSection(study), callsSection(study, pictures), filmSection(study, pictures),
    ...extraSections(study), drawingSection(study, pictures), numbersSection(study)].filter(Boolean);
  made.after(...sections);
  document.getElementById("nav").replaceChildren(...[...main.querySelectorAll("section")].map((part) =>
    element("a", { href: `#${part.id}` }, part.querySelector("h2").textContent)));
  const asked = /^#cluster-(\d+)$/.exec(location.hash);
  if (asked && Number(asked[1]) < study.k) openCluster(Number(asked[1]), true);
  page.complete = performance.now();
  document.body.dataset.complete = "";
}

/** When the browser has shown what there is; soon, in a tab that is not looked at. */
function seen() {
  return new Promise((resolve) => {
    setTimeout(resolve, 300);
    requestAnimationFrame(() => setTimeout(resolve, 0));
  });
}

/** The section of the map in the page, which must be there before it can be drawn. */
function mapHolder(study, pictures, openCluster, main) {
  const place = element("div");
  for (const old of main.querySelectorAll("section:not(#live)")) old.remove();
  document.getElementById("loading")?.remove();
  main.append(place);
  const parts = mapSection(study, pictures, openCluster);
  place.replaceWith(parts.made);
  parts.map.resize();  // now that it has a size: draws
  return parts;
}

/** Say what went wrong where it is seen. */
function tellError(error) {
  document.getElementById("loading")?.remove();
  document.getElementById("messages").replaceChildren(element("p.error", {}, `Something went wrong: ${error?.message ?? error}`));
}

/** For scripts and tests: what is shown, and when it was. */
const page = globalThis.gpukmeansPage = { begun: performance.now(), show, Study };
addEventListener("unhandledrejection", (event) => tellError(event.reason));
addEventListener("error", (event) => tellError(event.error ?? event.message));
const first = embeddedStudy();
startLive(first);
show(first).catch(tellError);
