"""Prompts that a page, a card or an archive must treat as text."""

PROMPTS = (
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 2</script><!-- <script>",
    "\"><img src=x onerror='window.pwned = 3'>",
    "'; alert(1); //\\'",
    "line one\nline two\r\nline three\u2028four",
    "مرحبا بالعالم \u202eright to left\u202c שלום",
    "{{ 7 * 7 }} {% include 'x' %} ${7*7} `x`",
    "---\nlicense: evil\n---\n# heading | table | [link](javascript:alert(1))",
    "x" * 9_990 + " <b>end</b>",
    "emoji 🎬 and tab\there & ampersand &lt;",
)
