"use strict";

// The page's own part; a file of its own, because the page allows no inline script.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  validatorUrl: null, // never ask anybody else
  queryConfigEnabled: false, // a link must not choose another document
  persistAuthorization: false, // a token is gone with the page
  withCredentials: false,
});
