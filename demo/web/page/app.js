// SPDX-License-Identifier: Apache-2.0
//
// The page: asks for the ballot once, then follows the counts over one WebSocket.

import { dress } from '/weaves.js';

const ROW_PX = 31;
const RETRY_FIRST_MS = 300;
const RETRY_LAST_MS = 5000;
const NOTICE_MS = 5000;
const COUNT = new Intl.NumberFormat('en');

const byId = (id) => document.getElementById(id);
const fabrics = new Map(); // id -> {fabric, card, row}

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) {
    element.textContent = text;
  }
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

// --- notices ---

let noticeTimer = 0;

function notice(text) {
  const element = byId('notice');
  element.textContent = text;
  element.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => {
    element.hidden = true;
  }, NOTICE_MS);
}

// --- voting ---

function play(element, name) {
  element.classList.remove(name);
  void element.offsetWidth; // starts the animation again
  element.classList.add(name);
}

async function vote(entry) {
  const { fabric, card } = entry;
  try {
    const answer = await fetch(`/api/vote/${encodeURIComponent(fabric.id)}`, { method: 'POST' });
    if (answer.ok) {
      play(card, 'counted');
      return;
    }
    const { error = answer.statusText } = await answer.json().catch(() => ({}));
    play(card, 'refused');
    notice(`${fabric.name}: ${answer.status}. ${error}`);
  } catch {
    play(card, 'refused');
    notice(`${fabric.name}: the vote did not arrive. Is the demo still up?`);
  }
}

// --- the ballot ---

function cardOf(fabric, failing) {
  const item = make('li', 'item');
  const card = make('button', 'card');
  card.type = 'button';
  card.dataset.fabric = fabric.id;
  const swatch = make('span', 'swatch');
  dress(swatch, fabric);
  const label = make('span', 'label');
  label.append(make('span', 'name', fabric.name), make('span', 'note', fabric.note));
  card.append(swatch, label);
  if (fabric.id === failing) {
    card.append(make('span', 'flag', 'fails on purpose'));
  }
  item.append(card);
  return { item, card };
}

function rowOf(fabric) {
  const row = make('li', 'row');
  const track = make('span', 'track');
  const bar = make('span', 'bar');
  dress(bar, fabric, 0.7);
  track.append(bar);
  const count = make('span', 'count', '0');
  row.append(make('span', 'who', fabric.name), track, count);
  return { row, bar, count };
}

function showBallot(list, failing) {
  list.forEach((fabric, place) => {
    const { item, card } = cardOf(fabric, failing);
    const entry = { fabric, card, place, ...rowOf(fabric) };
    card.addEventListener('click', () => vote(entry));
    byId('ballot').append(item);
    if (fabric.id !== failing) {
      byId('measure').append(entry.row);
    }
    fabrics.set(fabric.id, entry);
  });
  byId('measure').style.height = `${byId('measure').children.length * ROW_PX}px`;
  byId('empty').hidden = true;
  showStandings({});
}

async function loadBallot() {
  for (let wait = RETRY_FIRST_MS; ; wait = Math.min(wait * 2, RETRY_LAST_MS)) {
    try {
      const answer = await fetch('/api/fabrics');
      if (answer.ok) {
        const { title, failing, fabrics: list } = await answer.json();
        document.title = title;
        setText(byId('title'), title);
        showBallot(list, failing);
        return;
      }
      const { error } = await answer.json();
      setText(byId('empty'), `The catalog is not there yet: ${error}`);
    } catch {
      setText(byId('empty'), 'The front end does not answer; trying again.');
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

// --- the counts ---

function showStandings(votes) {
  const entries = [...fabrics.values()].filter((entry) => entry.row.isConnected);
  const of = (entry) => votes[entry.fabric.id] ?? 0;
  const most = Math.max(1, ...entries.map(of));
  entries.sort((a, b) => of(b) - of(a) || a.place - b.place);
  entries.forEach((entry, rank) => {
    entry.row.style.transform = `translateY(${rank * ROW_PX}px)`;
    entry.row.classList.toggle('leader', rank === 0 && of(entry) > 0);
    entry.bar.style.width = `${(100 * of(entry)) / most}%`;
    setText(entry.count, COUNT.format(of(entry)));
  });
  setText(byId('total'), COUNT.format(Object.values(votes).reduce((sum, each) => sum + each, 0)));
}

function showRecent(recent) {
  const items = recent.filter((id) => fabrics.has(id)).map((id) => {
    const { fabric } = fabrics.get(id);
    const button = make('li', 'button');
    button.title = fabric.name;
    dress(button, fabric, 0.55);
    return button;
  });
  byId('recent').replaceChildren(...items);
}

function showReplicas(replicas) {
  const groups = Object.entries(replicas).map(([service, shares]) => {
    const group = make('div', 'service');
    const total = Object.values(shares).reduce((sum, each) => sum + each, 0);
    const track = make('div', 'split');
    const names = make('ul', 'pods');
    Object.entries(shares).forEach(([pod, calls], index) => {
      const part = make('span', `part part${index % 4}`);
      part.style.flexGrow = calls;
      track.append(part);
      const name = make('li', `pod part${index % 4}`, pod);
      name.append(make('b', '', `${Math.round((100 * calls) / total)} %`));
      names.append(name);
    });
    group.append(make('h3', '', service), track, names);
    return group;
  });
  byId('replicas').replaceChildren(...groups);
}

function showState(word, live) {
  setText(byId('state'), word);
  byId('state').classList.toggle('on', live);
}

function show(state) {
  showState(state.connected ? 'live' : 'paused', state.connected);
  setText(byId('lost'), COUNT.format(state.lost));
  showStandings(state.votes);
  showRecent(state.recent);
  showReplicas(state.replicas);
}

let retryMs = RETRY_FIRST_MS;

function follow() {
  const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/live`);
  socket.addEventListener('message', (event) => {
    retryMs = RETRY_FIRST_MS;
    show(JSON.parse(event.data));
  });
  socket.addEventListener('close', () => {
    showState('reconnecting', false);
    setTimeout(follow, retryMs);
    retryMs = Math.min(retryMs * 2, RETRY_LAST_MS);
  });
}

await loadBallot();
follow();
