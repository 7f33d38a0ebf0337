// Viewers ask in a thousand ways for the same page, and each way would be cached
// apart. Only a form of IPFS's own is passed on; nobody else sees a difference.
function handler(event) {
  var headers = event.request.headers;
  var accept = headers.accept ? headers.accept.value : '';
  var own = accept.match(/application\/(vnd\.ipld\.[a-z-]+|vnd\.ipfs\.[a-z-]+|x-tar|json|cbor)(;[^,]*)?/);
  if (own && accept.indexOf('text/html') < 0) headers.accept = { value: own[0].trim() };
  else delete headers.accept;
  return event.request;
}
