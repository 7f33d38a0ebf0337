// Clients of the pinning service API are given URL/psa and ask for URL/psa/pins.
function handler(event) {
  event.request.uri = event.request.uri.replace(/^\/psa\//, '/');
  return event.request;
}
