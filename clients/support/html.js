// Just enough HTML to fill the forms of pages that work without JavaScript.

const ENTITIES = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function decode(text) {
  return text.replace(/&(#x?[0-9a-f]+|\w+);/gi, (whole, name) => {
    if (!name.startsWith('#')) return ENTITIES[name.toLowerCase()] ?? whole;
    const hexadecimal = name[1].toLowerCase() === 'x';
    return String.fromCodePoint(parseInt(name.slice(hexadecimal ? 2 : 1), hexadecimal ? 16 : 10));
  });
}

function attributes(tag) {
  const found = {};
  for (const [, name, , double, single, bare] of tag.matchAll(
    /([\w-]+)(\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?/g,
  )) {
    found[name.toLowerCase()] = decode(double ?? single ?? bare ?? '');
  }
  return found;
}

/** The first form of a page: where it goes, its fields, and its buttons in order. Undefined when there is none. */
export function firstForm(html) {
  const match = /<form\b([^>]*)>(.*?)<\/form>/is.exec(html);
  if (!match) return undefined;
  const [, opening, content] = match;
  const { action = '', method = 'get' } = attributes(opening);
  const fields = [];
  const buttons = [];
  for (const [, kind, inner] of content.matchAll(/<(input|button)\b([^>]*)>/gis)) {
    const { name, value = '', type = kind.toLowerCase() === 'button' ? 'submit' : 'text' } = attributes(inner);
    if (type === 'submit') buttons.push({ name, value });
    else if (name) fields.push({ name, value, type });
  }
  return { action, method: method.toLowerCase(), fields, buttons };
}

/** The first link of a page to an address that begins with `start`. Undefined when there is none. */
export function linkTo(start, html) {
  return [...html.matchAll(/<a\b([^>]*)>/gi)]
    .map(([, inner]) => attributes(inner).href)
    .find((href) => href?.startsWith(start));
}

/** What a page says, for messages about tests that failed. */
export function textOf(html) {
  return decode(html.replace(/<(style|script|head)\b.*?<\/\1>/gis, ' ').replace(/<[^>]+>/g, ' '))
    .replace(/\s+/g, ' ')
    .trim();
}
