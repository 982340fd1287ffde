#!/usr/bin/env python3
"""The chat page in a real browser, against fake_server.py.

    check_page.py PAGE ARTIFACTS [NAME...]
    check_page.py http://HOST:PORT/ ARTIFACTS [NAME...]

runs every test, or those named, and leaves screenshots in the directory ARTIFACTS; of a server that
runs, which can't be told what to say, a few. It prints a line for each test, and exits with 1 if one
failed. Needs selenium, Chromium and its driver.
"""
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

HERE = pathlib.Path(__file__).resolve().parent
WAIT = 30  # seconds for something to come about


class Server:
    def __init__(self, page, port=0):
        command = [sys.executable, str(HERE / "fake_server.py"), page, str(port)]
        self.page = page
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        self.port = int(self.url.rstrip("/").rsplit(":", 1)[1])

    def set(self, **settings):
        request = urllib.request.Request(self.url + "fake", json.dumps(settings).encode(),
                                         {"Content-Type": "application/json"})
        urllib.request.urlopen(request).read()

    def requests(self):
        return json.load(urllib.request.urlopen(self.url + "fake"))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def again(self):
        self.__init__(self.page, self.port)


class Running:
    """A server that is not ours: it says what its model says."""

    def __init__(self, url):
        self.url = url

    def set(self, **settings):
        pass

    def kill(self):
        pass


class Page:
    """A browser on the page, and what the tests do with it."""

    def __init__(self, server, artifacts):
        self.server, self.artifacts = server, artifacts
        self.downloads = tempfile.mkdtemp()
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--window-size=1280,900"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.add_experimental_option("prefs", {"download.default_directory": self.downloads})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)

    def quit(self):
        self.driver.quit()
        shutil.rmtree(self.downloads)

    def begin(self):
        """As on the first visit, with a server that has forgotten what it was told."""
        driver = self.driver
        for handle in driver.window_handles[1:]:
            driver.switch_to.window(handle)
            driver.close()
        driver.switch_to.window(driver.window_handles[0])
        self.server.set(reset=True)
        driver.get("about:blank")
        driver.execute_cdp_cmd("Storage.clearDataForOrigin",
                               {"origin": self.server.url.rstrip("/"), "storageTypes": "all"})
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        driver.get(self.server.url)
        driver.execute_script("sessionStorage.clear()")
        driver.get(self.server.url)
        self.until("the model's name", lambda: self.text("#model"))
        driver.get_log("browser")

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.one(selector).text

    def until(self, what, condition):
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            try:
                found = condition()
                if found:
                    return found
            except (NoSuchElementException, StaleElementReferenceException):
                pass
            time.sleep(0.05)
        raise AssertionError(f"expected {what}")

    def see(self, selector, words):
        def condition():
            return words in self.text(selector)
        try:
            self.until("", condition)
        except AssertionError:
            found = [element.text for element in self.all(selector)]
            raise AssertionError(f"expected {words!r} in {selector}, found {found}") from None

    def shown(self, selector, is_shown=True):
        self.until(f"{selector} {'' if is_shown else 'not '}to be shown",
                   lambda: self.one(selector).is_displayed() == is_shown)

    def keys(self, *keys):
        self.driver.switch_to.active_element.send_keys(*keys)

    def press(self, label, within="main"):
        """Clicks the last button that says this."""
        xpath = f".//button[contains(normalize-space(), '{label}')]"
        buttons = self.one(within).find_elements(By.XPATH, xpath)
        assert buttons, f"expected a button {label!r} in {within}"
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", buttons[-1])
        buttons[-1].click()

    def write(self, text):
        self.one("#draft").send_keys(text)

    def send(self, text):
        self.write(text + Keys.ENTER)

    def idle(self):
        self.shown("#send")

    def turns(self):
        read = "return [...document.querySelectorAll('#log article')].map((turn) => " \
               "[turn.classList[1], turn.querySelector(':scope > .said, :scope > .text').textContent])"
        return [tuple(turn) for turn in self.driver.execute_script(read)]

    def ask(self, text, answer):
        self.server.set(text=answer)
        self.send(text)
        self.until(f"the answer {answer!r}", lambda: self.turns() and self.turns()[-1][1] == answer)
        self.idle()

    def menu(self, what):
        self.one("#toggle-menu").click()
        self.one("#" + what).click()

    def listed(self):
        return [link.text.split("\n")[0] for link in self.all("#list a")]

    def shot(self, name):
        self.driver.save_screenshot(str(self.artifacts / (name + ".png")))

    def complaints(self):
        """What the browser's console says, but for failed requests: these are asked for."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if "Failed to load resource" not in entry["message"]]


def test_send_and_stream(page):
    page.server.set(text="one two three four five six", delay=0.3)
    page.send("Count to six")
    page.see(".assistant > .text", "one")
    assert "six" not in page.text(".assistant > .text"), "the answer came at once"
    page.shown("#stop")
    page.idle()
    assert page.turns() == [("user", "Count to six"), ("assistant", "one two three four five six")]
    assert "7 tokens at 42/s" in page.text(".stats"), page.text(".stats")
    assert "of 2,048 tokens" in page.text("#meter")
    assert page.one("#draft").get_attribute("value") == ""
    body = page.server.requests()[-1]
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
    assert body["messages"] == [{"role": "user", "content": "Count to six"}]


def test_lines_and_enter(page):
    page.write("one" + Keys.SHIFT + Keys.ENTER + Keys.NULL + "two")
    assert page.turns() == []
    page.send("")
    page.idle()
    page.until("an answer", lambda: len(page.turns()) == 2)
    assert page.turns()[0] == ("user", "one\ntwo")


def test_stop(page):
    page.server.set(text="word " * 200, delay=0.1)
    page.send("Go on and on")
    page.see(".assistant > .text", "word word")
    page.keys(Keys.ESCAPE)
    page.see(".note", "Stopped.")
    page.idle()
    words = page.turns()[-1][1]
    assert 0 < len(words) < 500, words
    page.ask("And now?", "Well.")
    assert [m["role"] for m in page.server.requests()[-1]["messages"]] == ["user", "assistant", "user"]
    page.server.set(prompt=[1, 2, 3, 4, 5], text="Late.")
    page.send("Stop before the first word")
    page.shown("#stop")
    page.one("#stop").click()
    page.see(".failure", "Not answered.")
    page.server.set(prompt=[])
    page.press("Try again")
    page.until("the answer", lambda: page.turns()[-1][1] == "Late.")


def test_thoughts(page):
    thoughts = "**Hmm**, " + "let me think. " * 10 + '<img src=x onerror="window.hacked=1">\n\n1. so\n2. thus'
    page.server.set(think=thoughts, text="An *answer* it is.", delay=0.05)
    page.send("What?")
    page.see(".thoughts", "let me think")
    page.see(".thoughts summary", "Thinking…")
    assert page.one(".thoughts").get_attribute("open") and page.turns()[-1] == ("assistant", "")
    page.until("the thoughts folded", lambda: not page.one(".thoughts").get_attribute("open"))
    page.driver.execute_script("document.querySelector('.thoughts summary').click()")  # stays as the user wants it
    page.idle()
    assert page.turns()[-1] == ("assistant", "An answer it is.")
    assert page.text(".thoughts summary").startswith("Thought for "), page.text(".thoughts summary")
    assert page.text(".thoughts summary").endswith((" second", " seconds"))
    assert page.one(".thoughts").get_attribute("open") and page.one(".thoughts ol li:last-child").text == "thus"
    assert page.text(".thoughts strong") == "Hmm" and not page.all("#log img")
    assert page.driver.execute_script("return window.hacked") is None

    # Copies have the answer alone, requests both, files both as the terminal chat writes them.
    page.driver.execute_script("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.press("Copy")
    page.until("a copy", lambda: page.driver.execute_script("return window.copied") == "An *answer* it is.")
    page.server.set(think="")
    page.ask("And?", "Well.")
    assert len([block for block in page.all(".thoughts") if block.is_displayed()]) == 1
    said = {"role": "assistant", "content": "An *answer* it is.", "reasoning_content": thoughts}
    assert page.server.requests()[-1]["messages"][1] == said, page.server.requests()[-1]["messages"]
    assert [set(m) for m in page.server.requests()[-1]["messages"][::2]] == [{"role", "content"}] * 2
    page.menu("export")
    folder = pathlib.Path(page.downloads)
    file = page.until("a download", lambda: next(folder.glob("*.json"), None))
    session = json.loads(file.read_text())
    written = f"<think>\n{thoughts}\n</think>\n\nAn *answer* it is."
    assert [m["content"] for m in session["messages"]] == ["What?", written, "And?", "Well."], session
    page.driver.refresh()
    page.until("the conversation", lambda: len(page.turns()) == 4)
    assert page.text(".thoughts summary").startswith("Thought for ") and not page.one(".thoughts").get_attribute("open")
    session["title"] = "Imported"
    session["messages"][0]["content"] = "<think>\nmine\n</think>\n\nWhat?"  # a user's text stays one
    again = folder / "in.txt"
    again.write_text(json.dumps(session))
    file.unlink()
    page.one("#file").send_keys(str(again))
    page.until("it imported", lambda: page.text("#title") == "Imported")
    assert page.turns()[1] == ("assistant", "An answer it is.") and "mine" in page.turns()[0][1]
    assert page.text(".thoughts summary") == "Thoughts"
    page.menu("export")
    file = page.until("a download", lambda: next(folder.glob("*.json"), None))
    assert json.loads(file.read_text()) == session
    file.unlink()

    # Another answer has its own; one that is stopped while it thinks shows them, and goes on.
    page.server.set(think="Otherwise.", text="Another.", delay=0)
    page.press("Regenerate")
    page.until("another answer", lambda: page.turns()[-1] == ("assistant", "Another."))
    page.idle()
    assert page.all(".thoughts .text")[-1].get_attribute("textContent") == "Otherwise."
    assert "reasoning_content" not in page.server.requests()[-1]["messages"][-1]
    page.server.set(think="on and on " * 100, delay=0.1)
    page.send("Think")
    page.until("some thoughts", lambda: "on and" in page.all(".thoughts .text")[-1].text)
    page.keys(Keys.ESCAPE)
    page.see(".note", "Stopped.")
    page.idle()
    assert page.all(".thoughts")[-1].get_attribute("open") and page.turns()[-1] == ("assistant", "")
    assert page.all(".thoughts summary")[-1].text.startswith("Thought for ")
    page.server.set(think="", delay=0)
    page.ask("And now?", "Yes.")
    assert page.server.requests()[-1]["messages"][-2]["content"] == ""


def test_regenerate(page):
    page.ask("What?", "First answer.")
    page.server.set(text="Second answer.")
    page.press("Regenerate")
    page.until("another answer", lambda: page.turns()[-1:] == [("assistant", "Second answer.")])
    page.idle()
    assert len(page.turns()) == 2
    page.press("Undo")
    page.until("the first answer back", lambda: page.turns()[-1:] == [("assistant", "First answer.")])


def test_edit(page):
    page.ask("First question", "First answer.")
    page.ask("Second question", "Second answer.")
    page.server.set(text="Another answer.")
    page.driver.execute_script("document.querySelector('.user .tools button:last-child').click()")
    page.keys(Keys.CONTROL + "a" + Keys.NULL + "Changed question")
    page.driver.refresh()  # what was typed is still there
    page.until("the edit", lambda: page.one(".edit textarea").get_attribute("value") == "Changed question")
    page.one(".edit textarea").send_keys(Keys.ENTER)
    page.until("the rest gone", lambda: page.turns() == [("user", "Changed question"), ("assistant", "Another answer.")])
    assert page.server.requests()[-1]["messages"] == [{"role": "user", "content": "Changed question"}]
    page.press("Undo")
    page.until("all of it back", lambda: len(page.turns()) == 4 and page.turns()[0][1] == "First question")
    page.one("#draft").send_keys(Keys.ARROW_UP)
    page.until("the last question", lambda: page.one(".edit textarea").get_attribute("value") == "Second question")
    page.keys(Keys.ESCAPE)
    page.until("no edit", lambda: not page.all(".edit"))
    page.press("Edit")
    page.keys("!", Keys.ENTER)
    page.until("the changed end", lambda: page.turns()[2] == ("user", "Second question!"))


def test_reload(page):
    page.ask("A question about whales", "An answer about whales.")
    page.write("unsent words")
    page.driver.refresh()
    page.until("the conversation", lambda: len(page.turns()) == 2)
    assert page.one("#draft").get_attribute("value") == "unsent words"
    page.driver.get("about:blank")
    page.driver.get(page.server.url)
    page.until("a list", lambda: page.listed() == ["A question about whales"])
    page.one("#list a").click()
    page.until("the conversation", lambda: page.turns()[-1:] == [("assistant", "An answer about whales.")])
    assert page.one("#draft").get_attribute("value") == "unsent words"
    page.driver.back()
    page.until("a new conversation", lambda: page.turns() == [])


def test_reload_while_answering(page):
    page.server.set(text="word " * 400, delay=0.05)
    page.send("Go on and on")
    page.until("some seconds of text", lambda: page.turns() and len(page.turns()[-1][1]) > 200)
    page.driver.refresh()
    page.until("what came so far", lambda: page.turns() and page.turns()[-1][1].startswith("word word"))
    page.see(".note", "interrupted")


def test_draft_of_new_conversation(page):
    page.write("Only a draft")
    page.driver.get("about:blank")
    page.driver.get(page.server.url)
    page.until("the draft listed", lambda: page.listed() == ["Only a draft"])
    page.one("#list a").click()
    assert page.one("#draft").get_attribute("value") == "Only a draft"
    page.one("#draft").clear()
    page.write("x" + Keys.BACKSPACE)
    page.one("#new").click()
    page.until("nothing listed", lambda: page.listed() == [])


def test_conversations(page):
    for name in ("Whales", "Rivers", "Engines"):
        page.one("#new").click()
        page.ask(f"Tell me about {name}", f"{name} are interesting, says the fake.")
    assert page.listed() == ["Tell me about Engines", "Tell me about Rivers", "Tell me about Whales"]
    page.keys(Keys.CONTROL + "k")
    page.keys("rivers are")
    page.until("one found", lambda: page.listed() == ["Tell me about Rivers"])
    page.see("#list small", "Rivers are interesting")
    page.shot("search")
    page.keys(Keys.ENTER)
    page.until("it opened", lambda: page.turns()[0][1] == "Tell me about Rivers")
    page.one("#search").clear()
    page.one("#search").send_keys("zzz")
    page.see("#list", "Nothing found.")
    page.one("#search").send_keys(Keys.ESCAPE)
    page.menu("rename")
    page.keys(Keys.CONTROL + "a" + Keys.NULL + "All about rivers" + Keys.ENTER)
    page.until("the new name", lambda: "All about rivers" in page.listed() and page.text("#title") == "All about rivers")
    page.driver.refresh()
    page.until("the new name kept", lambda: page.text("#title") == "All about rivers")
    page.menu("delete")
    page.until("it gone", lambda: len(page.listed()) == 2 and page.turns() == [])
    page.press("Undo")
    page.until("it back", lambda: len(page.listed()) == 3 and len(page.turns()) == 2)
    links = page.all("#list a")
    links[0].send_keys(Keys.ARROW_DOWN)
    page.keys(Keys.ARROW_DOWN)
    page.keys(Keys.DELETE)
    page.until("another gone", lambda: len(page.listed()) == 2)
    page.keys(Keys.F2)
    page.keys(Keys.CONTROL + "a" + Keys.NULL + "Renamed" + Keys.ENTER)
    page.until("another renamed", lambda: "Renamed" in page.listed())


def test_answers_go_on(page):
    page.server.set(text="slowly " * 20, delay=0.05)
    page.send("A long one")
    page.see(".assistant > .text", "slowly")
    page.one("#new").click()
    assert page.turns() == []
    page.idle()
    page.until("a busy mark", lambda: page.all("#list a.busy"))
    page.until("the end of it", lambda: not page.all("#list a.busy"))
    page.one("#list a").click()
    page.until("the whole answer", lambda: page.turns()[-1][1].strip() == ("slowly " * 20).strip())


def test_continue(page):
    page.server.set(finish="length")
    page.ask("Count.", "One, two,")
    page.see(".note", "Cut here: there was no room for more.")
    page.server.set(text=" three.", finish="stop")
    page.press("Continue")
    page.until("the rest", lambda: page.turns()[-1:] == [("assistant", "One, two, three.")])
    page.idle()
    assert len(page.turns()) == 2
    request = page.server.requests()[-1]
    assert request["continue_final_message"] is True, request
    assert request["messages"][-1] == {"role": "assistant", "content": "One, two,"}, request
    assert not [b for b in page.all("button") if b.text == "Continue"]
    page.ask("And now?", "Four.")
    assert "continue_final_message" not in page.server.requests()[-1]


def test_export_and_import(page):
    page.one("#toggle-panel").click()
    page.one("#system").send_keys("Be kind.")
    for name, value in (("temperature", "0.25"), ("seed", "7"), ("max_tokens", "99")):
        page.one("#set-" + name).send_keys(value + Keys.TAB)
    page.one("#set-top_p").send_keys("7" + Keys.TAB)
    assert page.one("#set-top_p").get_attribute("aria-invalid") == "true"
    assert page.text("#help-top_p") == "expected a number above 0, up to 1", page.text("#help-top_p")
    page.one("#set-top_p").clear()
    page.one("#set-seed").send_keys(Keys.TAB)
    page.one("#close-panel").click()
    hostile = "tabs\tand \"quotes\" \\ and\nlines, ünïcode 🐋 and </script><b>"
    page.ask(hostile.replace("\t", " ").replace("\n", " ").replace("🐋", ""), "An answer\nin lines.")
    body = page.server.requests()[-1]
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0.25, 7, 99) and "top_p" not in body
    assert body["messages"][0] == {"role": "system", "content": "Be kind."}
    page.menu("export")
    folder = pathlib.Path(page.downloads)
    file = page.until("a download", lambda: next(folder.glob("*.json"), None))
    session = json.loads(file.read_text())
    assert session["format"] == "llama3-session" and session["version"] == 1
    assert session["system"] == "Be kind." and session["sampling"] == {"temperature": 0.25, "seed": 7, "max_tokens": 99}
    assert session["messages"][1] == {"role": "assistant", "content": "An answer\nin lines."}
    session["title"], session["messages"][0]["content"] = "A title", hostile
    first = folder / "in.txt"
    first.write_text(json.dumps(session))
    page.one("#file").send_keys(str(first))
    page.until("it imported", lambda: page.turns() and page.turns()[0][1] == hostile and page.text("#title") == "A title")
    file.unlink()
    page.menu("export")
    file = page.until("a download", lambda: next(folder.glob("*.json"), None))
    again = json.loads(file.read_text())
    assert again == session, (again, session)
    file.unlink()
    # What the terminal chat wrote comes out as it came in.
    theirs = HERE.parent / "data" / "session.json"
    page.one("#file").send_keys(str(theirs))
    page.until("it imported", lambda: page.text("#title").startswith("Whales"))
    page.menu("export")
    file = page.until("a download", lambda: next(folder.glob("*.json"), None))
    assert json.loads(file.read_text()) == json.loads(theirs.read_text())
    for bad, words in (("{", "expected JSON"), ("[]", "expected an object"), ('{"format":"x"}', "llama3-session"),
                       ('{"format":"llama3-session","version":2}', "version"),
                       (json.dumps({**session, "extra": 1}), '"extra" is not known'),
                       (json.dumps({**session, "messages": session["messages"][1:]}), 'expected role "user"'),
                       (json.dumps({**session, "sampling": {"temperature": -1}}), '"temperature"'),
                       (b"\xff\xfe", "expected UTF-8")):
        first.write_bytes(bad if isinstance(bad, bytes) else bad.encode())
        before = len(page.listed())
        page.one("#file").send_keys(str(first))
        page.see("#toast", words)
        assert len(page.listed()) == before
    # What was wrong with the last file is not said of the next one.
    page.one("#file").send_keys(str(theirs))
    page.until("it imported", lambda: len(page.listed()) == before + 1)
    assert not page.one("#toast").is_displayed()


HOSTILE = """<img src=x onerror="window.hacked=1"> and <script>window.hacked=2</script>

[one](javascript:window.hacked=3) [two](data:text/html,<script>window.hacked=4</script>)
[three](JaVaScRiPt:window.hacked=5) [four](\tjavascript:alert) <javascript:alert(1)> [five](vbscript:x)
![image](https://example.com/pixel.png) ![other](javascript:x) [six](//example.com) [seven](/etc)
[good](https://example.com/a_(b)) <https://example.org/x> https://example.net/y.

<a href="javascript:window.hacked=6">x</a> <style>body{display:none}</style> <iframe src=x></iframe>

the order \u202eis turned\u202c here, `and \u2066in code\u2069`

| a | b |
|---|---|
| <img src=x onerror=window.hacked=7> | [x](javascript:y) |

""" + "[" * 3000 + "](" * 3000 + "*" * 3001 + " **a *b " * 500 + "`" * 999 + "> " * 500 + "\n\n" + \
    "x" * 20000 + "\n\n" + "\n".join("  " * i + "- deep" for i in range(60)) + "\n\n```html\n<b>not bold</b>\n\n**open"


def test_hostile_markdown(page):
    page.server.set(text=HOSTILE, piece=50, delay=0)
    page.send("<img src=x onerror=window.hacked=8><b>bold</b>")
    page.until("the answer", lambda: page.turns() and "**open" in page.turns()[-1][1])
    page.idle()
    find = page.driver.execute_script
    assert find("return window.hacked") is None
    assert find("return document.querySelectorAll('#log :is(img, script, iframe, style, object)').length") == 0
    links = [link.get_attribute("href") for link in page.all("#log a")]
    assert links == ["https://example.com/pixel.png", "https://example.com/a_(b)", "https://example.org/x",
                     "https://example.net/y"], links
    assert all(link.get_attribute("rel") == "noopener noreferrer" for link in page.all("#log a"))
    words = page.turns()[-1][1]
    assert "\u202e" not in words and "[U+202E]is turned" in words and "[U+2066]" in words
    assert page.turns()[0][1] == "<img src=x onerror=window.hacked=8><b>bold</b>"
    assert page.text(".code code") == "<b>not bold</b>\n\n**open"
    wide = find("return document.documentElement.scrollWidth <= innerWidth && "
                "document.getElementById('scroll').scrollWidth <= document.getElementById('scroll').clientWidth + 1")
    assert wide, "something is wider than the page"
    depth = find("let deepest = 0; for (let node of document.querySelectorAll('#log *')) { let n = 0; "
                 "while ((node = node.parentNode)) n++; deepest = Math.max(n, deepest); } return deepest")
    assert depth < 80, depth
    assert page.complaints() == []


MARKDOWN = {
    "**bold** *it* _it_ ***both*** ~~gone~~ `co*de`": "<p><strong>bold</strong> <em>it</em> <em>it</em> <em><strong>both</strong></em> <del>gone</del> <code>co*de</code></p>",
    "snake_case_name 2*3*4 a * b": "<p>snake_case_name 2<em>3</em>4 a * b</p>",
    r"\*not\* \_this\_": "<p>*not* _this_</p>",
    "# One\n## Two #\n### Three": "<h3>One</h3><h3>Two</h3><h4>Three</h4>",
    "- a\n- b\n  - c\n- d": "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>",
    "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
    "1. a\n\n2. b": "<ol><li><p>a</p></li><li><p>b</p></li></ol>",
    "- [ ] a\n- [x] b": '<ul><li class="task">☐ a</li><li class="task">☑ b</li></ul>',
    "> a\n> b\n\nc": "<blockquote><p>a\nb</p></blockquote><p>c</p>",
    "a\n***\nb": "<p>a</p><hr><p>b</p>",
    "[a `b`](https://x.example/ \"t\")": '<p><a href="https://x.example/">a <code>b</code></a></p>',
    "(see https://x.example/a_b_c).": '<p>(see <a href="https://x.example/a_b_c">https://x.example/a_b_c</a>).</p>',
    "1. x\n   ```\n   code\n     in\n   ```\n2. y": "<ol><li>x<pre><code>code\n  in</code></pre></li><li>y</li></ol>",
    "| a | b \\| c |\n|:-:|--:|\n| 1 | **2** |": "<table><thead><tr><th>a</th><th>b | c</th></tr></thead><tbody><tr><td>1</td><td><strong>2</strong></td></tr></tbody></table>",
    "``` c\nint x = 1; // \"y\"\n```": "<pre><code><b>int</b> x = <u>1</u>; <i>// \"y\"</i></code></pre>",
    "a\n```\n**b": "<p>a</p><pre><code>**b</code></pre>",
}


def test_markdown(page):
    shape = """
        const show = (node) => {
            if (node.nodeType === 3) return node.data;
            const inner = [...node.childNodes].map(show).join("");
            const tag = node.localName;
            if (node.matches(".code")) return show(node.querySelector("pre"));
            if (node.matches(".wide")) return inner;
            const start = tag === "ol" && node.start !== 1 ? ` start="${node.start}"` : "";
            const href = tag === "a" ? ` href="${node.href}"` : "";
            const task = node.matches("li.task") ? ' class="task"' : "";
            return tag === "hr" ? "<hr>" : `<${tag}${start}${href}${task}>${inner}</${tag}>`;
        };
        const grown = document.createElement("div"), at_once = document.createElement("div");
        const growing = new Growing(grown);
        for (let i = 1; i <= arguments[0].length; i += arguments[1]) growing.update(arguments[0].slice(0, i));
        growing.finish(arguments[0]);
        new Growing(at_once).finish(arguments[0]);
        return [at_once, grown].map((root) => [...root.childNodes].map(show).join(""));
    """
    for text, expected in MARKDOWN.items():
        whole, grown = page.driver.execute_script(shape, text, 1)
        assert whole == expected, f"{text!r}: expected\n{expected}, found\n{whole}"
        assert grown == expected, f"{text!r}, letter by letter: expected\n{expected}, found\n{grown}"
    whole, grown = page.driver.execute_script(shape, HOSTILE, 97)
    assert whole == grown, "the hostile text grows to something else than it is"


def test_speed(page):
    """A megabyte of answer in small pieces: what a frame costs must not grow with it."""
    measure = """
        const part = "A paragraph with **bold** text, `code` and a [link](https://example.com/).\\n\\n" +
            "```c\\nint x = 1;\\n```\\n\\n- one\\n- two\\n\\n";
        const code = "```c\\n" + "    int a_line_of_code = 1;\\n".repeat(20000);
        const out = [];
        for (const text of [part.repeat(6000), code]) {
            const root = document.createElement("div"), growing = new Growing(root);
            const costs = [];
            for (let at = 2000; at < text.length; at += 2000) {
                const begun = performance.now();
                growing.update(text.slice(0, at));
                costs.push(performance.now() - begun);
            }
            growing.finish(text);
            const late = costs.slice(-costs.length / 4).sort((a, b) => a - b);
            out.push([late[late.length >> 1], Math.max(...costs)]);
        }
        const attacks = ["*a ", "**a *b ", "[", "![", "](", "[a](", "[a](b \\"", "`", "` ", "``a`", "_a", "~~a", "<", "<http:",
            "https://", "> ", "- ", "1. ", "|", "| ", "#", "# ", "    ", "\\\\", "h", "\\n> ", "\\n- ", "\\n|a|", "```\\n", "*_", "a* "];
        for (const attack of attacks) {
            const costs = [0, 1].map(() => {
                const begun = performance.now();
                new Growing(document.createElement("div")).finish(attack.repeat(100000 / attack.length));
                return performance.now() - begun;
            });
            out.push([attack, Math.min(...costs)]);
        }
        return out;
    """
    paragraphs, code, *attacks = page.driver.execute_script(measure)
    for name, (median, worst) in (("0.6 MB of blocks", paragraphs), ("0.5 MB of code", code)):
        print(f"    {name}: a step at the end takes {median:.1f} ms (the longest of all {worst:.0f})")
        assert median < 16, f"{name}: expected a frame, found {median} ms"
    print(f"    at most {max(ms for _, ms in attacks):.0f} ms for 100 kB of an attack")
    for attack, ms in attacks:
        assert ms < 4000, f"{attack!r}: {ms:.0f} ms"


def test_server_killed(page):
    page.server.set(text="word " * 400, delay=0.05)
    page.send("Go on and on")
    page.until("some text", lambda: page.turns() and len(page.turns()[-1][1]) > 50)
    page.server.kill()
    page.see(".failure", "The connection to the server broke")
    page.see("#banner", "can't be reached")
    page.shot("server-gone")
    assert page.turns()[-1][1].startswith("word word")
    page.write("kept")
    page.server.again()
    page.server.set(text="Here again.")
    page.shown("#banner", False)
    page.press("Try again")
    page.until("a new answer", lambda: page.turns()[-1:] == [("assistant", "Here again.")])
    assert page.one("#draft").get_attribute("value") == "kept"


def test_server_away(page):
    page.server.kill()
    page.send("Is anyone there?")
    page.see(".doing", "The server can't be reached. Trying again in")
    page.server.again()
    page.server.set(text="Yes.")
    page.until("the answer", lambda: page.turns()[-1:] == [("assistant", "Yes.")])


def test_stream_breaks(page):
    page.server.set(text="one two three", **{"break": 2})
    page.send("Break")
    page.see(".failure", "this answer is not complete")
    page.server.set(**{"break": None}, error={"message": "the device failed", "type": "server_error"})
    page.press("Try again")
    page.see(".failure", "the device failed")
    page.server.set(error=None, finish="length", text="Cut here and")
    page.press("Try again")
    page.see(".note", "Cut here")


def test_busy(page):
    page.server.set(refuse=[[503, 2], [429, None]], text="At last.")
    page.send("Hello?")
    page.see(".doing", "The server is busy. Trying again in 2 s.")
    page.shot("busy")
    page.until("the answer", lambda: page.turns()[-1:] == [("assistant", "At last.")])
    assert len(page.server.requests()) >= 3
    page.server.set(refuse=[[503, 60]])
    page.send("Again?")
    page.see(".doing", "Trying again in")
    page.press("Try now")
    page.until("the answer", lambda: len(page.turns()) == 4 and page.turns()[-1][1] == "At last.")
    page.server.set(refuse=[[400, None]])
    page.send("Too long")
    page.see(".failure", "the prompt has 9000 tokens, the context 2048")


def test_key(page):
    page.server.set(key="secret", text="Let in.")
    page.send("May I?")
    page.shown("#ask")
    assert page.one("#ask-value").get_attribute("type") == "password"
    page.keys("wrong" + Keys.ENTER)
    page.until("the question again", lambda: page.one("#ask-value").get_attribute("value") == "" and page.one("#ask").is_displayed())
    page.keys("secret" + Keys.ENTER)
    page.until("the answer", lambda: page.turns()[-1:] == [("assistant", "Let in.")])
    page.driver.refresh()
    page.see("#model", "SmolLM2")
    page.driver.execute_script("sessionStorage.clear()")
    page.driver.refresh()
    page.see("#banner", "wants an API key")
    page.press("Enter the key")
    page.keys("secret" + Keys.ENTER)
    page.shown("#banner", False)


def test_loading(page):
    page.server.set(loading=True)
    page.driver.refresh()
    page.see("#banner", "loading its model")
    page.server.set(loading=False)
    page.shown("#banner", False)
    page.see("#model", "SmolLM2")


def test_prompt_progress(page):
    page.server.set(prompt=[512, 1024, 2048], text="Read.")
    page.send("A long prompt")
    page.see(".doing", "512 of 2,048 tokens")
    page.shot("reading")
    page.see(".doing", "1,024 of 2,048 tokens")
    page.until("the answer", lambda: page.turns()[-1:] == [("assistant", "Read.")])
    page.write("x" * 2000)
    page.until("the draft counted", lambda: int(page.text("#meter").split()[0].replace(",", "")) > 500)


def test_two_tabs(page):
    driver = page.driver
    page.ask("Shared", "One.")
    first = driver.current_window_handle
    address = driver.current_url
    driver.switch_to.new_window("tab")
    driver.get(address)
    page.until("the conversation", lambda: len(page.turns()) == 2)
    second = driver.current_window_handle
    page.ask("From the second tab", "Two.")
    page.write("draft of the second")
    driver.switch_to.window(first)
    page.until("the other tab's turns", lambda: len(page.turns()) == 4)
    page.write("draft of the first")
    driver.refresh()
    assert page.one("#draft").get_attribute("value") == "draft of the first"
    driver.switch_to.window(second)
    driver.refresh()
    page.until("its own draft", lambda: page.one("#draft").get_attribute("value") == "draft of the second")
    # While one answers, the other waits, and then has the answer too.
    page.one("#draft").clear()
    page.server.set(text="slowly " * 10, delay=0.1)
    page.send("A long one")
    driver.switch_to.window(first)
    page.see(".failure", "Another tab is answering this.")
    page.keys(Keys.ENTER)
    page.see("#toast", "Another tab")
    assert page.one("#draft").get_attribute("value") == "draft of the first"
    page.until("the whole answer", lambda: len(page.turns()) == 6 and page.turns()[5][1].strip() == ("slowly " * 10).strip())
    assert not page.all(".failure")
    # If they write at the same moment nevertheless, neither is lost.
    driver.execute_script("tabs.onmessage = null")
    page.one("#draft").clear()
    driver.switch_to.window(second)
    driver.execute_script("tabs.onmessage = null")
    page.send("Second at once")
    driver.switch_to.window(first)
    page.send("First at once")
    page.see("#log article:nth-of-type(8) > .text", "slowly")
    page.idle()
    driver.refresh()
    page.until("both listed", lambda: len(page.listed()) == 2)
    found = set()
    for i in range(2):
        page.all("#list a")[i].click()
        page.until("eight turns", lambda: len(page.turns()) == 8)
        found.add(page.turns()[6][1])
    assert found == {"First at once", "Second at once"}, found


def test_storage_refused(page):
    page.driver.execute_cdp_cmd("Page.enable", {})
    script = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source":
        "IDBFactory.prototype.open = () => { throw new Error('no'); };"
        "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"})
    try:
        page.driver.refresh()
        page.see("#toast", "keeps no conversations")
        page.ask("Still?", "Yes.")
        page.one("#new").click()
        page.one("#list a").click()
        page.until("the conversation", lambda: len(page.turns()) == 2)
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_storage_slow(page):
    """What was sent and answered before the browser's database is open is kept."""
    page.driver.execute_cdp_cmd("Page.enable", {})
    script = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source":
        "const open = IDBFactory.prototype.open; window.opened = false;"
        "IDBFactory.prototype.open = function (...all) { const request = open.apply(this, all);"
        "Object.defineProperty(request, 'onsuccess', { set(f) { request.addEventListener('success',"
        "() => setTimeout(() => { f(); setTimeout(() => { window.opened = true; }, 200); }, 2000)); } });"
        "return request; };"})
    try:
        page.driver.refresh()
        page.server.set(text="Here.", delay=0)
        page.send("Who is there?")
        page.until("the database", lambda: page.driver.execute_script("return window.opened"))
        page.until("the answer", lambda: page.turns() == [("user", "Who is there?"), ("assistant", "Here.")])
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    page.driver.refresh()
    page.until("it kept", lambda: len(page.turns()) == 2)


def test_storage_full(page):
    page.driver.execute_script("transact = () => Promise.reject(new DOMException('full', 'QuotaExceededError'))")
    page.ask("Full?", "Yes.")
    page.see("#toast", "storage is full")
    assert page.turns() == [("user", "Full?"), ("assistant", "Yes.")]


def focus(page):
    return page.driver.execute_script("const a = document.activeElement; return a.id || a.className || a.localName")


def test_keyboard(page):
    assert focus(page) == "draft"
    page.ask("One", "First.")
    page.ask("Two", "Second.")
    page.keys(Keys.ALT + Keys.ARROW_UP)
    assert "assistant" in focus(page)
    page.keys(Keys.ALT + Keys.ARROW_UP)
    assert "user" in focus(page)
    for _ in range(2):
        page.keys(Keys.ALT + Keys.ARROW_DOWN)
    assert focus(page) == "draft"
    page.keys(Keys.CONTROL + ",")
    page.shown("#panel")
    assert focus(page) == "close-panel"
    page.keys(Keys.ESCAPE)
    page.shown("#panel", False)
    page.keys(Keys.CONTROL + Keys.SHIFT + "o")
    page.until("a new conversation", lambda: page.turns() == [])
    assert focus(page) == "draft"
    page.driver.refresh()
    # All that can be clicked can be reached.
    seen = set()
    for _ in range(40):
        page.keys(Keys.TAB)
        seen.add(focus(page))
    assert {"skip", "new", "search", "import", "toggle-side", "toggle-menu", "toggle-panel", "draft", "send"} <= seen, seen


def test_theme(page):
    page.one("#toggle-panel").click()
    paper = lambda: page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    page.one("[name=theme][value=dark]").click()
    dark = paper()
    page.driver.refresh()
    page.until("dark again", lambda: paper() == dark)
    page.one("#toggle-panel").click()
    page.one("[name=theme][value=light]").click()
    assert paper() != dark
    page.one("[name=theme][value='']").click()
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    page.until("as the system", lambda: paper() == dark)


SAMPLE = (HERE / "sample.md").read_text()


def axe_problems(page):
    """What axe-core finds. Of the package that brings it, only the script is used."""
    package = importlib.util.find_spec("axe_playwright_python").submodule_search_locations[0]
    page.driver.execute_script((pathlib.Path(package) / "axe.min.js").read_text())
    found = page.driver.execute_async_script("axe.run().then(arguments[0], (error) => arguments[0]({error: String(error)}))")
    assert "error" not in found, found
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found["violations"] for node in rule["nodes"]]


THOUGHTS = """The user asks about reading files. Two ways come to mind:

1. `for line in file`, which reads ahead in *blocks*
2. `readlines()`, which needs memory for all of it

```python
with open(path) as file:
    for line in file: ...
```

So the first one; I should say what it [costs](https://docs.python.org/) as well."""


def test_looks(page):
    """Screenshots at both widths, light and dark; and no accessibility problem in any of them."""
    page.server.set(text=SAMPLE, think=THOUGHTS, piece=40, delay=0)
    page.send("How do I read a file line by line in Python, and what does it cost?")
    page.until("the answer", lambda: page.all(".stats"))
    problems = []
    for scheme in ("light", "dark"):
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        for name, width, height, mobile in (("desktop", 1280, 800, False), ("phone", 390, 844, True)):
            page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
                "width": width, "height": height, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile})
            time.sleep(0.3)
            scroll = "document.getElementById('scroll').scrollTop = arguments[0]"
            for part, top in (("top", 0), ("thoughts", 0), ("end", 1e6)):
                page.driver.execute_script(scroll, top)
                page.driver.execute_script("document.querySelector('.thoughts').open = arguments[0]", part == "thoughts")
                time.sleep(0.1)
                page.shot(f"{name}-{scheme}-{part}")
                problems += axe_problems(page) if part == "thoughts" else []
            assert page.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth"), name
            problems += axe_problems(page)
            page.one("#toggle-panel").click()
            page.shot(f"{name}-{scheme}-settings")
            problems += axe_problems(page)
            page.one("#close-panel").click()
            if mobile:
                page.one("#toggle-side").click()
                page.shot(f"{name}-{scheme}-list")
                problems += axe_problems(page)
                page.keys(Keys.ESCAPE)
            else:
                page.one("#toggle-menu").click()
                page.shot(f"{name}-{scheme}-menu")
                problems += axe_problems(page)
                page.keys(Keys.ESCAPE)
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.menu("rename")
    problems += axe_problems(page)
    page.keys(Keys.ESCAPE)
    page.one("#new").click()
    page.shot("empty")
    problems += axe_problems(page)
    assert not problems, "\n".join(sorted(set(problems)))


def limit(page, **settings):
    page.one("#toggle-panel").click()
    for name, value in settings.items():
        page.one("#set-" + name).send_keys(f"{value}" + Keys.TAB)
    page.one("#close-panel").click()


def real_conversation(page):
    limit(page, max_tokens=40)
    page.send("Name three colours.")
    page.shown("#stop")
    page.until("an answer", lambda: page.turns()[-1:] and page.turns()[-1][0] == "assistant")
    page.idle()
    assert " prompt token" in page.text(".stats") and "/s" in page.text(".stats"), page.text(".stats")
    used, of = page.text("#meter").replace(",", "").split(" of ")
    assert 0 < int(used) < int(of.split()[0])
    first = page.turns()
    page.send("And one more?")
    page.until("another answer", lambda: len(page.turns()) == 4)
    page.idle()
    assert "remembered" in page.all(".stats")[-1].text, "the second turn reads the first again"
    page.shot("server-conversation")
    page.driver.refresh()
    page.until("the conversation", lambda: page.turns()[:2] == first and len(page.turns()) == 4)
    page.press("Edit")
    page.keys(Keys.CONTROL + "a" + Keys.NULL + "Name a city." + Keys.ENTER)
    page.until("the changed turn", lambda: page.turns()[2:3] == [("user", "Name a city.")] and len(page.turns()) == 4)
    page.idle()
    page.press("Regenerate")
    page.until("an answer", lambda: len(page.turns()) == 4)
    page.idle()


def real_same_seed(page):
    limit(page, seed=7, max_tokens=20)
    page.send("Tell me a story.")
    page.until("an answer", lambda: len(page.turns()) == 2)
    page.idle()
    page.see(".note", "no room for more")
    first = page.turns()
    page.press("Regenerate")
    page.until("none", lambda: page.one("#stop").is_displayed() or page.turns() == first)
    page.idle()
    page.until("the same answer", lambda: page.turns() == first)


def real_stop(page):
    page.send("Write a very long story about a whale.")
    page.until("some text", lambda: page.turns() and page.turns()[-1][0] == "assistant")
    page.keys(Keys.ESCAPE)
    page.see(".note", "Stopped.")
    page.idle()


def real_too_long(page):
    page.driver.execute_script("document.getElementById('draft').value = 'word '.repeat(200000)")
    page.send("!")
    page.see(".failure", "tokens")
    assert page.complaints() == []


def main():
    artifacts = pathlib.Path(sys.argv[2])
    artifacts.mkdir(parents=True, exist_ok=True)
    running = sys.argv[1].startswith("http://")
    tests = {name[5:]: test for name, test in globals().items()
             if name.startswith("real_" if running else "test_")}
    wanted = sys.argv[3:] or list(tests)
    server = Running(sys.argv[1]) if running else Server(sys.argv[1])
    page = Page(server, artifacts)
    failed = 0
    try:
        for name in wanted:
            begun = time.monotonic()
            try:
                page.begin()
                tests[name](page)
                complaints = page.complaints()
                assert not complaints, f"the console says {complaints}"
                print(f"PASS: {name}, {time.monotonic() - begun:.1f} s", flush=True)
            except Exception:
                failed += 1
                print(f"FAIL: {name}", flush=True)
                traceback.print_exc(file=sys.stdout)
                page.shot("failed-" + name)
                if not running and server.process.poll() is not None:
                    server.again()
    finally:
        page.quit()
        server.kill()
    print(f"{len(wanted) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
