// Renews what a page shows. Everything can be read and done without it.
'use strict';

(() => {
  const main = () => document.getElementById('main');
  let following = null;
  let renewing = false;

  // Takes the same page again and puts its content in the place of the old one; what is open stays open.
  async function renew() {
    if (renewing || main().contains(document.activeElement) && document.activeElement.matches('input, select, textarea')) return;
    renewing = true;
    try {
      const response = await fetch(location.href, { headers: { accept: 'text/html' } });
      if (!response.ok) return;
      const fresh = new DOMParser().parseFromString(await response.text(), 'text/html').getElementById('main');
      if (!fresh) return;
      const open = [...main().querySelectorAll('details')].map((details) => details.open);
      [...fresh.querySelectorAll('details')].forEach((details, index) => { details.open = open[index] || false; });
      main().replaceWith(document.adoptNode(fresh));
      if (following && !main().dataset.live) stop();
      enhance();
    } finally {
      renewing = false;
    }
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
  }

  function enhance() {
    for (const range of main().querySelectorAll('.through input[type=range]')) {
      range.addEventListener('change', () => range.form.requestSubmit());
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
