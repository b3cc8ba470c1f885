// Sends the answer of an authorization request on without a click; without scripts the button does it.
document.forms[0].submit();
