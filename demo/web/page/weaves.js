// SPDX-License-Identifier: Apache-2.0
//
// Draws cloth: for each weave a tile that repeats without a seam, from two colours.

const line = (d, colour, width, more = '') =>
  `<path d="${d}" fill="none" stroke="${colour}" stroke-width="${width}" ${more}/>`;
const box = (x, y, w, h, colour, opacity = 1) =>
  `<rect x="${x}" y="${y}" width="${w}" height="${h}" fill="${colour}" opacity="${opacity}"/>`;

// Stops of a gradient that ends as it began.
const stops = (list) =>
  list.map(([at, colour, opacity = 1]) =>
    `<stop offset="${at}" stop-color="${colour}" stop-opacity="${opacity}"/>`).join('');

// The same "random" specks on every page.
function specks(count, size, draw) {
  let seed = 7;
  const next = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  return Array.from({ length: count }, () => draw(next() * size, next() * size, next)).join('');
}

function plain(g, t) {
  return [8, 8, box(0, 0, 4, 4, t, 0.55) + box(4, 4, 4, 4, t, 0.55) + box(0, 4, 4, 4, '#fff', 0.12)
    + line('M0 0H8M0 4H8', '#000', 0.5, 'opacity=".14"') + line('M0 0V8M4 0V8', '#fff', 0.5, 'opacity=".25"')];
}

function twill(g, t) {
  return [8, 8, line('M-2 2l4-4M0 8l8-8M6 10l4-4', t, 2.1, 'opacity=".75"')
    + line('M-2 5l7-7M3 10l7-7', '#000', 0.8, 'opacity=".22"')];
}

function pile(g, t) {
  return [150, 150, `<defs><linearGradient id="a" x2="1" y2=".0">${stops([[0, t, 0.1], [0.22, t, 0.85],
    [0.4, t, 0.15], [0.6, '#000', 0.35], [0.8, t, 0.5], [1, t, 0.1]])}</linearGradient></defs>`
    + `<rect width="150" height="150" fill="url(#a)"/>`
    + specks(260, 150, (x, y) => line(`M${x.toFixed(1)} ${y.toFixed(1)}v2`, '#fff', 0.6, 'opacity=".12"'))];
}

function herringbone(g, t) {
  const up = [-4, 0, 4, 8, 12, 16].map((y) => `M0 ${y + 8}l8-8`).join('');
  const down = [-8, -4, 0, 4, 8, 12].map((y) => `M8 ${y}l8 8`).join('');
  return [16, 16, line(up + down, t, 1.7)];
}

function check(g, t) {
  return [28, 28, box(0, 0, 14, 28, t, 0.5) + box(0, 0, 28, 14, t, 0.5)
    + line('M0 1H28M0 5H28M0 9H28M0 13H28', '#fff', 0.7, 'opacity=".25"')];
}

function wale(g, t) {
  return [9, 9, `<defs><linearGradient id="a">${stops([[0, '#000', 0.42], [0.25, t, 0.5], [0.5, t],
    [0.75, t, 0.5], [1, '#000', 0.42]])}</linearGradient></defs><rect width="9" height="9" fill="url(#a)"/>`];
}

function satin(g, t) {
  return [140, 140, `<defs><linearGradient id="a" gradientUnits="userSpaceOnUse" x2="70" y2="70"
    spreadMethod="repeat">${stops([[0, t, 0.1], [0.18, t, 0.95], [0.34, t, 0.15], [0.55, '#000', 0.12],
    [0.7, t, 0.6], [0.82, '#fff', 0.55], [1, t, 0.1]])}</linearGradient></defs>`
    + `<rect width="140" height="140" fill="url(#a)"/>`];
}

function tartan(g, t) {
  const bars = [[4, 14], [22, 3], [29, 3], [40, 10]];
  return [56, 56, bars.map(([at, wide]) => box(at, 0, wide, 56, t, 0.6) + box(0, at, 56, wide, t, 0.6)).join('')
    + line('M36 0V56M0 36H56', '#e9c46a', 1.6, 'opacity=".85"') + line('M26 0V56M0 26H56', '#fff', 0.9, 'opacity=".6"')];
}

function net(g, t) {
  return [14, 24, line('M0 4l7-4 7 4v8l-7 4-7-4zM7 16v8', t, 1.25, 'stroke-linejoin="round"')
    + `<circle cx="7" cy="16" r="1.2" fill="${t}"/><circle cx="0" cy="4" r="1.2" fill="${t}"/>`
    + `<circle cx="14" cy="4" r="1.2" fill="${t}"/>`];
}

// Houndstooth as it is woven: four dark and four light threads both ways, in a two-by-two twill.
function tooth(g, t) {
  let cells = '';
  for (let y = 0; y < 8; y++) {
    for (let x = 0; x < 8; x++) {
      const warpOnTop = (x + y) % 4 < 2;
      if ((warpOnTop ? x : y) < 4) {
        cells += `M${x} ${y}h1v1h-1z`;
      }
    }
  }
  return [28, 28, `<path transform="scale(3.5)" d="${cells}" fill="${t}" stroke="${t}" stroke-width=".06"/>`];
}

function stripe(g, t) {
  return [18, 30, `<path d="M0 0q3 5 0 10q-2 5 0 10q2 5 0 10H9q2-5 0-10q-2-5 0-10q3-5 0-10z" fill="${t}" opacity=".8"/>`
    + line('M9 4h9M9 13h9M9 23h9', '#000', 1, 'opacity=".07"') + line('M0 8h9M0 18h9M0 27h9', '#fff', 1, 'opacity=".22"')];
}

function lace(g, t) {
  const petals = [0, 60, 120, 180, 240, 300].map((turn) =>
    `<ellipse cx="20" cy="12" rx="3.6" ry="6" transform="rotate(${turn} 20 20)" fill="none" stroke="${t}" stroke-width="1.3"/>`);
  return [40, 40, petals.join('') + `<circle cx="20" cy="20" r="2.4" fill="${t}"/>`
    + line('M0 0q10 6 20 0q10-6 20 0M0 40q10-6 20 0q10 6 20 0', t, 1.3)
    + line('M0 0q6 10 0 20q-6 10 0 20M40 0q-6 10 0 20q6 10 0 20', t, 1.3)
    + [[0, 0], [40, 0], [0, 40], [40, 40]].map(([x, y]) => `<circle cx="${x}" cy="${y}" r="4.5" fill="${t}"/>`).join('')
    + line('M4 4l8 8M36 4l-8 8M4 36l8-8M36 36l-8-8', t, 0.9, 'stroke-dasharray="1.6 1.6"')];
}

function damask(g, t) {
  const leaf = 'M24 4c9 9 9 14 0 20c-9-6-9-11 0-20zM24 24c5 3 11 3 13 10c-6 2-11-1-13-10zM24 24c-5 3-11 3-13 10c6 2 11-1 13-10z'
    + 'M24 27c3 6 3 11 0 17c-3-6-3-11 0-17z';
  const one = `<path d="${leaf}" fill="${t}" opacity=".85"/>` + line('M24 8v14', g, 1.2);
  return [48, 48, one + `<g transform="translate(24 24)">${one}</g><g transform="translate(-24 24)">${one}</g>`
    + `<g transform="translate(24 -24)">${one}</g><g transform="translate(-24 -24)">${one}</g>`];
}

function knit(g, t) {
  return [12, 10, line('M0 0l6 7l6-7M0 10l6 7l6-7M0-10l6 7l6-7', t, 3.1, 'stroke-linejoin="round" stroke-linecap="round" opacity=".85"')
    + line('M6-4V14M0-4V14', '#000', 0.8, 'opacity=".18"')];
}

function fleck(g, t) {
  return [80, 80, specks(150, 80, (x, y, next) => {
    const colour = next() > 0.45 ? t : '#000';
    return line(`M${x.toFixed(1)} ${y.toFixed(1)}q${(next() * 6 - 3).toFixed(1)} ${(next() * 4 - 2).toFixed(1)} `
      + `${(next() * 8 - 4).toFixed(1)} ${(next() * 8 - 4).toFixed(1)}`, colour, 0.9, 'opacity=".38" stroke-linecap="round"');
  })];
}

function moth(g, t) {
  const hole = (x, y, r) => `<g transform="translate(${x} ${y})"><path fill="#3a2d22" d="M${-r} 0q${r * 0.1} ${-r} ${r} ${-r}`
    + `q${r * 1.1} ${r * 0.2} ${r} ${r}q${-r * 0.2} ${r * 0.9} ${-r} ${r * 0.8}q${-r} ${-r * 0.1} ${-r} ${-r * 0.8}z"/>`
    + line(`M${-r - 2} ${-r / 3}l3 1M${r * 0.6} ${-r - 1}l-1 3M${r + 2} ${r / 3}l-3-1M${-r / 2} ${r + 2}l1-3`, t, 1.1) + '</g>';
  let stitches = '';
  for (let y = -5; y <= 120; y += 5) {
    for (let x = 0; x < 120; x += 6) {
      stitches += `M${x} ${y}l3 3.4l3-3.4`;
    }
  }
  return [120, 120, line(stitches, t, 1.3, 'opacity=".6"') + hole(32, 62, 10) + hole(98, 78, 6) + hole(68, 34, 5) + hole(70, 104, 4)];
}

const weaves = { plain, twill, pile, herringbone, check, wale, satin, tartan, net, tooth, stripe, lace, damask, knit, fleck, moth };

/** Dress an element in the fabric's cloth; `scale` shrinks the pattern. */
export function dress(element, fabric, scale = 1) {
  const colour = (text, other) => (/^#[0-9a-f]{6}$/.test(text) ? text : other);
  const ground = colour(fabric.ground, '#999999');
  const thread = colour(fabric.thread, '#dddddd');
  const weave = Object.hasOwn(weaves, fabric.weave) ? weaves[fabric.weave] : plain;
  const [wide, high, drawing] = weave(ground, thread);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${wide}" height="${high}" viewBox="0 0 ${wide} ${high}">${drawing}</svg>`;
  element.style.backgroundColor = ground;
  element.style.backgroundImage = `url("data:image/svg+xml,${encodeURIComponent(svg)}")`;
  element.style.backgroundSize = `${wide * scale}px ${high * scale}px`;
}
