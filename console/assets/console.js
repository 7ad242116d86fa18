// Renews what a page shows. Everything can be read and done without it.
'use strict';

(() => {
  const main = () => document.getElementById('main');
  let following = null;
  let renewing = false;

  // A page of ours, or nothing.
  async function page(address) {
    const response = await fetch(address, { headers: { accept: 'text/html' } });
    return response.ok ? new DOMParser().parseFromString(await response.text(), 'text/html') : null;
  }

  // Takes the same page again and puts its content in the place of the old one; what is open stays open.
  async function renew() {
    if (renewing || main().contains(document.activeElement) && document.activeElement.matches('input, select, textarea')) return;
    renewing = true;
    try {
      const taken = await page(location.href);
      if (!taken) return;
      const fresh = taken.getElementById('main');
      // Of the navigation only what it counts: somebody may be about to press the rest.
      const links = taken.querySelectorAll('.top nav a');
      document.querySelectorAll('.top nav a').forEach((link, index) => {
        if (link.textContent !== links[index].textContent) link.replaceChildren(...document.adoptNode(links[index]).childNodes);
      });
      const open = [...main().querySelectorAll('details')].map((details) => details.open);
      [...fresh.querySelectorAll('details')].forEach((details, index) => { details.open = open[index] || false; });
      main().replaceWith(document.adoptNode(fresh));
      if (following && !main().dataset.live) stop();
      enhance();
    } finally {
      renewing = false;
    }
  }

  // Goes through time while the slider is moved: everything about the entry is put in its place, but the slider, which somebody holds.
  async function travel(range) {
    const at = range.value;
    const address = `${location.pathname}?at=${at}`;
    const fresh = (await page(address).catch(() => null))?.getElementById('main');
    if (!fresh || range.value !== at || !range.isConnected) return;
    for (const part of ['[aria-labelledby=steps]', '[aria-labelledby=entries]']) {
      main().querySelector(part).replaceWith(fresh.querySelector(part));
    }
    const [form, now] = [range.form, fresh.querySelector('.through')];
    [...form.children].forEach((child, index) => { if (child !== range) child.replaceWith(now.children[index].cloneNode(true)); });
    [...form.parentElement.children].forEach((child) => { if (child !== form) child.remove(); });
    const parts = [...now.parentElement.children];
    form.before(...parts.slice(0, parts.indexOf(now)));
    form.after(...parts.slice(parts.indexOf(now) + 1));
    history.replaceState(null, '', `${address}#at`);
  }

  function stop() {
    following.close();
    following = null;
  }

  function follow() {
    let due = null;
    following = new EventSource(main().dataset.live);
    following.addEventListener('entry', () => {
      clearTimeout(due);
      due = setTimeout(renew, 100);
    });
    following.addEventListener('end', () => { stop(); renew(); });
    // What breaks off is taken up again by the browser; what was refused is not.
    following.addEventListener('error', () => {
      if (!following || following.readyState !== EventSource.CLOSED) return;
      stop();
      const mark = main().querySelector('.live');
      if (mark) { mark.textContent = 'not live: reload'; mark.classList.remove('live'); }
    });
  }

  function enhance() {
    for (const range of main().querySelectorAll('.through input[type=range]')) {
      range.addEventListener('input', () => travel(range));
    }
    for (const all of main().querySelectorAll('input[data-all]')) {
      all.hidden = false;
      all.addEventListener('change', () => {
        for (const box of all.form.querySelectorAll(`input[name="${all.dataset.all}"]`)) box.checked = all.checked;
      });
    }
  }

  document.addEventListener('DOMContentLoaded', () => {
    enhance();
    document.querySelector('.top nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
    if (main().dataset.live) follow();
    setInterval(() => {
      if (main().dataset.renew && !document.hidden) renew();
    }, 3000);
  });

  // `/` goes to the first field, arrows through time.
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches('input, select, textarea, [contenteditable], .scroll, pre')) return;
    const go = { ArrowLeft: '.through a[rel=prev]', ArrowRight: '.through a[rel=next]' }[event.key];
    if (event.key === '/') {
      const field = main().querySelector('input:not([type=hidden]), select');
      if (field) { field.focus(); event.preventDefault(); }
    } else if (go) {
      const link = main().querySelector(go);
      if (link) { link.click(); event.preventDefault(); }
    }
  });
})();
